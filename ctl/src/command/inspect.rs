//! `inspect`.

use hull_proto::v1::{GetContainerRequest, GetContainerResponse, GetImageRequest, Image};
use serde::Serialize;

use crate::cli::{DataFormat, ImageInspectFlags, InspectFlags, InspectType};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::docker::{container_details, image_details};
use crate::output::{self, ContainerView, ImageView, Shape};

/// Either kind of thing.
#[derive(Debug)]
enum Thing {
    Container(Box<GetContainerResponse>),
    Image(Box<Image>),
}

/// One of them with the API's names.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum View {
    Container(Box<ContainerView>),
    Image(Box<ImageView>),
}

impl From<Thing> for View {
    fn from(thing: Thing) -> Self {
        match thing {
            Thing::Container(answer) => {
                let view = ContainerView::from(answer.container.unwrap_or_default());
                Self::Container(Box::new(view.with_runtime_spec(&answer.runtime_spec_json)))
            }
            Thing::Image(image) => Self::Image(Box::new((*image).into())),
        }
    }
}

impl Thing {
    /// With Docker's names.
    fn details(&self) -> serde_json::Value {
        match self {
            Self::Container(answer) => container_details(&answer.container.clone().unwrap_or_default()),
            Self::Image(image) => image_details(image),
        }
    }
}

/// Shows containers or images; those that are there are shown even if others are not.
pub(crate) async fn inspect(connect: impl Future<Output = Result<Client>>, flags: InspectFlags) -> Result<u8> {
    let shape = Shape::of(flags.output.output, flags.format.as_deref())?;
    let client = connect.await?;
    let mut found = Found::default();
    for name in flags.names {
        found.add(thing(&client, name, flags.r#type).await);
    }
    found.print(shape)
}

/// Shows images.
pub(crate) async fn images(connect: impl Future<Output = Result<Client>>, flags: ImageInspectFlags) -> Result<u8> {
    let shape = Shape::of(flags.output.output, flags.format.as_deref())?;
    let client = connect.await?;
    let mut found = Found::default();
    for name in flags.images {
        found.add(image(&client, name).await);
    }
    found.print(shape)
}

#[derive(Debug, Default)]
struct Found {
    things: Vec<Thing>,
    errors: Vec<Error>,
}

impl Found {
    fn add(&mut self, thing: Result<Thing>) {
        match thing {
            Ok(thing) => self.things.push(thing),
            Err(error) => self.errors.push(error),
        }
    }

    fn print(self, shape: Shape) -> Result<u8> {
        let views = |things: Vec<Thing>| things.into_iter().map(View::from).collect::<Vec<_>>();
        match shape {
            Shape::Template(template) => template.print(&[], self.things.iter().map(Thing::details))?,
            Shape::Data(format) => output::data(format, &views(self.things))?,
            Shape::People => output::data(DataFormat::Json, &views(self.things))?,
        }
        self.errors.iter().for_each(output::complain);
        if self.errors.is_empty() { Ok(0) } else { Err(Error::Reported) }
    }
}

async fn thing(client: &Client, name: String, kind: Option<InspectType>) -> Result<Thing> {
    match kind {
        Some(InspectType::Container) => container(client, name).await,
        Some(InspectType::Image) => image(client, name).await,
        None => match container(client, name.clone()).await {
            Err(error) if error.is_not_found() => image(client, name.clone()).await.map_err(|other| {
                if other.is_not_found() {
                    Error::new(format!("{name}: neither a container nor an image"))
                } else {
                    other
                }
            }),
            other => other,
        },
    }
}

async fn container(client: &Client, container: String) -> Result<Thing> {
    let answer = client.containers().get_container(GetContainerRequest { container }).await?.into_inner();
    if answer.container.is_none() {
        return Err(Error::new("the agent answered without the container"));
    }
    Ok(Thing::Container(Box::new(answer)))
}

async fn image(client: &Client, image: String) -> Result<Thing> {
    let answer = client.images().get_image(GetImageRequest { image }).await?.into_inner();
    let image = answer.image.ok_or_else(|| Error::new("the agent answered without the image"))?;
    Ok(Thing::Image(Box::new(image)))
}
