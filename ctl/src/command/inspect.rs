//! `inspect`.

use hull_proto::v1::{GetContainerRequest, GetImageRequest};
use serde::Serialize;

use crate::cli::{DataFormat, ImageInspectFlags, InspectFlags, InspectType};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::{self, ContainerView, ImageView};

/// Either kind of thing.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Thing {
    Container(Box<ContainerView>),
    Image(Box<ImageView>),
}

/// Shows containers or images; those that are there are shown even if others are not.
pub(crate) async fn inspect(client: Client, flags: InspectFlags) -> Result<u8> {
    let mut found = Found::default();
    for name in flags.names {
        found.add(thing(&client, name, flags.r#type).await);
    }
    found.print(flags.output.output)
}

/// Shows images.
pub(crate) async fn images(client: Client, flags: ImageInspectFlags) -> Result<u8> {
    let mut found = Found::default();
    for name in flags.images {
        found.add(image(&client, name).await);
    }
    found.print(flags.output.output)
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

    fn print(self, format: Option<DataFormat>) -> Result<u8> {
        output::data(format.unwrap_or(DataFormat::Json), &self.things)?;
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
    let container = answer.container.ok_or_else(|| Error::new("the agent answered without the container"))?;
    Ok(Thing::Container(Box::new(ContainerView::from(container).with_runtime_spec(&answer.runtime_spec_json))))
}

async fn image(client: &Client, image: String) -> Result<Thing> {
    let answer = client.images().get_image(GetImageRequest { image }).await?.into_inner();
    let image = answer.image.ok_or_else(|| Error::new("the agent answered without the image"))?;
    Ok(Thing::Image(Box::new(image.into())))
}
