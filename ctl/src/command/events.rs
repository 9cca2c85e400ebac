//! `events`.

use std::collections::BTreeSet;
use std::io::Write as _;

use hull_proto::v1::{EventType, StreamEventsRequest};
use jiff::Timestamp;

use crate::cli::{EventFormat, EventsFlags};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::{self, EventView, Shape, event_types, parse_moment};

/// Shows what happened, and what happens.
pub(crate) async fn events(connect: impl Future<Output = Result<Client>>, flags: EventsFlags) -> Result<u8> {
    let shape = Shape::of(None, flags.format.as_deref())?;
    let now = Timestamp::now();
    let (types, containers) = filters(&flags.filters)?;
    let request = StreamEventsRequest {
        after_sequence: flags.after,
        since: flags.since.as_deref().map(|text| parse_moment("--since", text, now)).transpose()?,
        until: flags.until.as_deref().map(|text| parse_moment("--until", text, now)).transpose()?,
        follow: !flags.no_follow,
        containers,
        types: types.into_iter().map(i32::from).collect(),
    };
    let mut answers = connect.await?.events().stream_events(request).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        if let Shape::Template(template) = &shape {
            template.print(&[], answer.events.into_iter().map(|event| EventView::from(event).fields()))?;
            continue;
        }
        let mut out = output::stdout();
        for event in answer.events.into_iter().map(EventView::from) {
            match flags.output {
                EventFormat::Text => writeln!(out, "{}", event.line())?,
                EventFormat::Json => {
                    let json = serde_json::to_string(&event);
                    writeln!(out, "{}", json.map_err(|error| Error::new(format!("formatting an event: {error}")))?)?;
                }
            }
        }
        out.flush()?;
    }
    Ok(0)
}

/// Types and containers of the conditions: of one key any may hold, of several keys all must.
fn filters(filters: &[String]) -> Result<(BTreeSet<EventType>, Vec<String>)> {
    let (mut subjects, mut actions, mut containers) = (Vec::new(), Vec::new(), Vec::new());
    for filter in filters {
        let wrong = |what: &str| Error::new(format!("--filter {filter}: {what}"));
        let forms = "expected type=container|image|daemon, event=NAME, or container=NAME";
        let (key, value) = filter.split_once('=').ok_or_else(|| wrong(forms))?;
        match key {
            "type" if event_types(Some(value), None).is_empty() => {
                return Err(wrong("there are no events of that type"));
            }
            "event" if event_types(None, Some(value)).is_empty() => return Err(wrong("there is no such event")),
            "type" => subjects.push(Some(value)),
            "event" => actions.push(Some(value)),
            "container" => containers.push(value.to_owned()),
            _ => return Err(wrong(forms)),
        }
    }
    if subjects.is_empty() && actions.is_empty() {
        return Ok((BTreeSet::new(), containers));
    }
    let any = |mut words: Vec<Option<_>>| {
        if words.is_empty() {
            words.push(None);
        }
        words
    };
    let (subjects, actions) = (any(subjects), any(actions));
    let pairs = subjects.iter().flat_map(|subject| actions.iter().map(move |action| event_types(*subject, *action)));
    let types: BTreeSet<EventType> = pairs.flatten().collect();
    if types.is_empty() {
        return Err(Error::new("--filter: no event is of that type and has that name"));
    }
    Ok((types, containers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(words: &[&str]) -> Vec<EventType> {
        filters(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()).unwrap().0.into_iter().collect()
    }

    #[test]
    fn conditions_narrow() {
        assert_eq!(types(&[]), []);
        assert_eq!(types(&["type=container", "event=start"]), [EventType::ContainerStarted]);
        assert_eq!(types(&["event=die", "event=oom"]), [EventType::ContainerOom, EventType::ContainerExited]);
        for wrong in ["x", "label=a", "type=volume", "event=explode"] {
            assert!(filters(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
        assert!(filters(&["type=image".into(), "event=die".into()]).is_err());
    }
}
