//! `context`.

use serde::Serialize;
use serde_json::{Value, json};

use super::list::print_lines;
use crate::cli::{
    Connection, ContextCommand, ContextFlags, ContextInspectFlags, ContextListFlags, ContextRemoveFlags, DataFormat,
};
use crate::context::{Chosen, Context, DEFAULT, Endpoint, Store, chosen, default_endpoint};
use crate::error::{Error, Result};
use crate::output::docker::CONTEXT;
use crate::output::{self, ListShape, Shape, Table};

/// Works on contexts; no agent is asked.
pub(crate) fn run(connection: &Connection, command: ContextCommand) -> Result<u8> {
    let store = Store::open();
    match command {
        ContextCommand::Create(flags) => create(connection, &store, flags),
        ContextCommand::Update(flags) => update(connection, &store, flags),
        ContextCommand::Ls(flags) => list(connection, &store, &flags),
        ContextCommand::Use(flags) => {
            store.set_current(&flags.name)?;
            output::line(&flags.name)?;
            if std::env::var_os("HULL_HOST").is_some_and(|host| !host.is_empty()) {
                output::complain(&Error::new("HULL_HOST is set and counts more than the context"));
            }
            Ok(0)
        }
        ContextCommand::Show => output::line(&name(&chosen(connection, &store)?)).map(|()| 0),
        ContextCommand::Inspect(flags) => inspect(connection, &store, flags),
        ContextCommand::Rm(flags) => remove(&store, flags),
    }
}

fn create(connection: &Connection, store: &Store, flags: ContextFlags) -> Result<u8> {
    let given = given(connection, &flags)?;
    if given.host.is_empty() {
        return Err(Error::new("a context is an agent's address: give --host"));
    }
    let context = Context { description: flags.description.unwrap_or_default(), endpoint: given.checked()? };
    store.put(&flags.name, context, false)?;
    output::line(&flags.name).map(|()| 0)
}

fn update(connection: &Connection, store: &Store, flags: ContextFlags) -> Result<u8> {
    let (given, kept) = (given(connection, &flags)?, store.get(&flags.name)?);
    let endpoint = Endpoint {
        host: if given.host.is_empty() { kept.endpoint.host } else { given.host },
        tls_ca: given.tls_ca.or(kept.endpoint.tls_ca),
        tls_cert: given.tls_cert.or(kept.endpoint.tls_cert),
        tls_key: given.tls_key.or(kept.endpoint.tls_key),
    };
    let description = flags.description.unwrap_or(kept.description);
    store.put(&flags.name, Context { description, endpoint: endpoint.checked()? }, true)?;
    output::line(&flags.name).map(|()| 0)
}

/// What flags say of an endpoint; those of the whole command line, or the one that Docker has.
fn given(connection: &Connection, flags: &ContextFlags) -> Result<Endpoint> {
    let Some(text) = &flags.docker else {
        let Connection { host, tls_ca, tls_cert, tls_key, .. } = connection.clone();
        return Ok(Endpoint { host: host.unwrap_or_default(), tls_ca, tls_cert, tls_key });
    };
    let mut endpoint = Endpoint::default();
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("host", host)) => host.clone_into(&mut endpoint.host),
            Some(("ca", path)) => endpoint.tls_ca = Some(path.into()),
            Some(("cert", path)) => endpoint.tls_cert = Some(path.into()),
            Some(("key", path)) => endpoint.tls_key = Some(path.into()),
            _ => return Err(Error::new(format!("--docker {part}: expected host=, ca=, cert= or key="))),
        }
    }
    Ok(endpoint)
}

/// What the choice is called.
fn name(chosen: &Chosen) -> String {
    match chosen {
        Chosen::Context(name) => name.clone(),
        Chosen::Host(_) | Chosen::Default => DEFAULT.to_owned(),
    }
}

/// A context with its name.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    name: String,
    current: bool,
    description: String,
    host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_ca: Option<std::path::PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert: Option<std::path::PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_key: Option<std::path::PathBuf>,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

impl View {
    fn of(store: &Store, name: &str, current: &str) -> Result<Self> {
        let context = if name == DEFAULT {
            let description = "What HULL_HOST says, or the socket of this machine".to_owned();
            let host = std::env::var("HULL_HOST").ok().filter(|host| !host.is_empty());
            let default = default_endpoint();
            Context { description, endpoint: Endpoint { host: host.unwrap_or(default.host), ..default } }
        } else {
            store.get(name)?
        };
        let Endpoint { host, tls_ca, tls_cert, tls_key } = context.endpoint;
        let (name, current, description) = (name.to_owned(), name == current, context.description);
        Ok(Self { name, current, description, host, tls_ca, tls_cert, tls_key, error: String::new() })
    }

    fn fields(&self) -> Value {
        json!({
            "Name": self.name,
            "Current": self.current,
            "Description": self.description,
            "DockerEndpoint": self.host,
            "Error": self.error,
        })
    }

    fn details(&self) -> Value {
        json!({
            "Name": self.name,
            "Metadata": {"Description": self.description},
            "Endpoints": {"docker": {"Host": self.host}},
        })
    }
}

fn list(connection: &Connection, store: &Store, flags: &ContextListFlags) -> Result<u8> {
    let shape = ListShape::of(&flags.output)?;
    let current = name(&chosen(connection, store)?);
    let mut names = vec![DEFAULT.to_owned()];
    names.extend(store.names()?);
    if flags.quiet || matches!(shape, ListShape::Names) {
        return print_lines(&names);
    }
    // One that cannot be read does not hide the others.
    let view = |name: &String| {
        View::of(store, name, &current).unwrap_or_else(|error| View {
            name: name.clone(),
            current: *name == current,
            description: String::new(),
            host: String::new(),
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            error: error.to_string(),
        })
    };
    let views: Vec<View> = names.iter().map(view).collect();
    match shape {
        ListShape::Names => {}
        ListShape::Data(format) => output::data(format, &views)?,
        ListShape::Template(template) => template.print(CONTEXT, views.iter().map(View::fields))?,
        ListShape::Table { .. } => {
            let mut table =
                Table::new(&["NAME", "DESCRIPTION", "ENDPOINT", "ERROR"]).fitting(&["DESCRIPTION", "ERROR"]);
            for view in views {
                let mark = if view.current { " *" } else { "" };
                table.row([format!("{}{mark}", view.name), view.description, view.host, view.error]);
            }
            table.print()?;
        }
    }
    Ok(0)
}

fn inspect(connection: &Connection, store: &Store, flags: ContextInspectFlags) -> Result<u8> {
    let shape = Shape::of(flags.output, flags.format.as_deref())?;
    let current = name(&chosen(connection, store)?);
    let names = if flags.names.is_empty() { vec![current.clone()] } else { flags.names };
    let views = names.iter().map(|name| View::of(store, name, &current)).collect::<Result<Vec<_>>>()?;
    match shape {
        Shape::Template(template) => template.print(&[], views.iter().map(View::details))?,
        Shape::Data(format) => output::data(format, &views)?,
        Shape::People => output::data(DataFormat::Json, &views)?,
    }
    Ok(0)
}

fn remove(store: &Store, flags: ContextRemoveFlags) -> Result<u8> {
    let current = store.current()?;
    let mut failed = false;
    for name in flags.names {
        let used = current.as_deref() == Some(name.as_str());
        let outcome = store.get(&name).and_then(|_| match (used && !flags.force, flags.dry_run) {
            (true, _) => Err(Error::new(format!("context {name} is in use; use another one first, or give --force"))),
            (false, true) => Ok(format!("Would remove: {name}")),
            (false, false) => {
                // First, so that the one in use is never one that is gone.
                if used {
                    store.set_current(DEFAULT)?;
                }
                store.remove(&name).map(|()| name.clone())
            }
        });
        match outcome {
            Ok(line) => output::line(&line)?,
            Err(error) => {
                failed = true;
                output::complain(&error);
            }
        }
    }
    if failed { Err(Error::Reported) } else { Ok(0) }
}
