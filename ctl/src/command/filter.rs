//! `--filter`: conditions with Docker's keys. What the agent cannot narrow a list to is narrowed here.

use std::collections::HashMap;

use hull_proto::v1::{Container, ContainerFilter, ContainerState, GetContainerRequest, GetImageRequest, Image};
use jiff::Timestamp;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::docker::{familiar, network_name, repository_and_tag};
use crate::output::{moment, parse_moment};

/// A condition's key and value.
fn parts(condition: &str) -> Result<(&str, &str)> {
    let parts = condition.split_once('=').filter(|(_, value)| !value.is_empty());
    parts.ok_or_else(|| wrong(condition, "expected KEY=VALUE"))
}

fn wrong(condition: &str, problem: &str) -> Error {
    Error::new(format!("--filter {condition}: {problem}"))
}

/// Fills what may be given once.
fn once(slot: &mut String, condition: &str, value: &str) -> Result<()> {
    if !slot.is_empty() {
        return Err(wrong(condition, "was given before"));
    }
    value.clone_into(slot);
    Ok(())
}

/// A label's key, and its value where there is one.
fn label(condition: &str) -> (String, String) {
    let (key, value) = condition.split_once('=').unwrap_or((condition, ""));
    (key.to_owned(), value.to_owned())
}

/// Whether the labels have this one; any value of it where none is asked for.
fn has(labels: Option<&HashMap<String, String>>, (key, value): &(String, String)) -> bool {
    let found = labels.and_then(|labels| labels.get(key));
    found.is_some_and(|found| value.is_empty() || found == value)
}

/// Conditions on containers. Several states, names, ids, exit codes, networks or volumes are any of them; several labels
/// all of them.
#[derive(Debug, Default)]
pub(crate) struct ContainerConditions {
    /// What the agent looks at.
    pub(crate) agent: ContainerFilter,
    names: Vec<String>,
    ids: Vec<String>,
    exited: Vec<i32>,
    networks: Vec<String>,
    volumes: Vec<String>,
    before: String,
    since: String,
}

impl ContainerConditions {
    /// What the flags say.
    pub(crate) fn parse(conditions: &[String]) -> Result<Self> {
        let mut all = Self::default();
        for condition in conditions {
            let (key, value) = parts(condition)?;
            match key {
                "status" => {
                    let state = state(value).ok_or_else(|| wrong(condition, "no such state"))?;
                    all.agent.states.push(state.into());
                }
                "label" => all.agent.labels.extend([label(value)]),
                "name" => all.names.push(value.trim_start_matches('/').to_owned()),
                "id" => all.ids.push(value.to_owned()),
                "ancestor" => once(&mut all.agent.image, condition, value)?,
                "exited" => all.exited.push(value.parse().map_err(|_| wrong(condition, "expected an exit code"))?),
                "network" => all.networks.push(value.to_owned()),
                "volume" => all.volumes.push(value.to_owned()),
                "before" => once(&mut all.before, condition, value)?,
                "since" => once(&mut all.since, condition, value)?,
                _ => {
                    let known = "ancestor, before, exited, id, label, name, network, since, status and volume";
                    return Err(wrong(condition, &format!("not known; {known} are")));
                }
            }
        }
        // One alone is for the agent, which need not send the others then.
        if let [name] = &all.names[..] {
            name.clone_into(&mut all.agent.name);
        }
        if let [id] = &all.ids[..] {
            id.clone_into(&mut all.agent.id);
        }
        Ok(all)
    }

    /// Whether they are about containers that have ended.
    pub(crate) fn want_ended(&self) -> bool {
        !self.exited.is_empty()
    }

    /// Whether the agent looks at all of them.
    pub(crate) fn are_the_agents(&self) -> bool {
        let several = self.names.len() > 1 || self.ids.len() > 1;
        let here = !(self.exited.is_empty() && self.networks.is_empty() && self.volumes.is_empty());
        !several && !here && self.before.is_empty() && self.since.is_empty()
    }

    /// Leaves out what does not fit.
    pub(crate) async fn narrow(&self, client: &Client, containers: &mut Vec<Container>) -> Result<()> {
        let before = created_of(client, &self.before).await?;
        let since = created_of(client, &self.since).await?;
        containers.retain(|container| self.fits(container) && between(created(container), since, before));
        Ok(())
    }

    fn fits(&self, container: &Container) -> bool {
        let config = container.config.clone().unwrap_or_default();
        let network = || network_name(config.namespaces.as_ref().and_then(|namespaces| namespaces.network.as_ref()));
        let exited = |code: &i32| container.exit.as_ref().is_some_and(|exit| exit.code == *code);
        let mounted = |path: &String| config.mounts.iter().any(|mount| mount.source == *path || mount.target == *path);
        any(&self.names, |name| container.name.contains(name.as_str()))
            && any(&self.ids, |id| container.id.starts_with(id.as_str()))
            && any(&self.exited, |code| container.state() == ContainerState::Exited && exited(code))
            && any(&self.networks, |name| network() == **name)
            && any(&self.volumes, mounted)
    }
}

/// Whether one of them holds, or there is none.
fn any<T>(values: &[T], holds: impl Fn(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(holds)
}

/// Whether a point in time is after one and before another.
fn between(time: Option<Timestamp>, after: Option<Timestamp>, before: Option<Timestamp>) -> bool {
    after.is_none_or(|after| time > Some(after)) && before.is_none_or(|before| time.is_some_and(|time| time < before))
}

fn created(container: &Container) -> Option<Timestamp> {
    moment(container.created_at.as_ref())
}

async fn created_of(client: &Client, name: &str) -> Result<Option<Timestamp>> {
    if name.is_empty() {
        return Ok(None);
    }
    let request = GetContainerRequest { container: name.to_owned() };
    Ok(client.containers().get_container(request).await?.into_inner().container.as_ref().and_then(created))
}

fn state(name: &str) -> Option<ContainerState> {
    ContainerState::from_str_name(&format!("CONTAINER_STATE_{}", name.to_ascii_uppercase()))
        .filter(|state| *state != ContainerState::Unspecified)
}

/// Conditions on containers that are to go: they do not run, have all of some labels and none of others, and are old.
#[derive(Debug)]
pub(crate) struct PruneConditions {
    /// What the agent looks at.
    pub(crate) agent: ContainerFilter,
    without: Vec<(String, String)>,
    until: Option<Timestamp>,
}

impl PruneConditions {
    /// What the flags say.
    pub(crate) fn parse(conditions: &[String]) -> Result<Self> {
        let states = [ContainerState::Created, ContainerState::Exited].map(i32::from).to_vec();
        let agent = ContainerFilter { states, ..ContainerFilter::default() };
        let mut all = Self { agent, without: Vec::new(), until: None };
        for condition in conditions {
            let (key, value) = parts(condition)?;
            match key {
                "label" => all.agent.labels.extend([label(value)]),
                "label!" => all.without.push(label(value)),
                "until" if all.until.is_some() => return Err(wrong(condition, "was given before")),
                "until" => all.until = moment(Some(&parse_moment("--filter until", value, Timestamp::now())?)),
                _ => return Err(wrong(condition, "not known; label, label! and until are")),
            }
        }
        Ok(all)
    }

    /// Whether those hold that the agent does not look at.
    pub(crate) fn fit(&self, container: &Container) -> bool {
        let labels = container.config.as_ref().map(|config| &config.labels);
        !self.without.iter().any(|label| has(labels, label)) && between(created(container), None, self.until)
    }
}

/// Conditions on images. Several patterns are any of them; several labels all of them.
#[derive(Debug, Default)]
pub(crate) struct ImageConditions {
    dangling: Option<bool>,
    labels: Vec<(String, String)>,
    references: Vec<String>,
    before: String,
    since: String,
}

impl ImageConditions {
    /// What the flags say.
    pub(crate) fn parse(conditions: &[String]) -> Result<Self> {
        let mut all = Self::default();
        for condition in conditions {
            let (key, value) = parts(condition)?;
            match key {
                "dangling" => {
                    let truth = match value {
                        "true" | "1" => true,
                        "false" | "0" => false,
                        _ => return Err(wrong(condition, "expected true or false")),
                    };
                    all.dangling = Some(truth);
                }
                "label" => all.labels.push(label(value)),
                "reference" if value.contains(['[', '\\']) => {
                    return Err(wrong(condition, "of the characters of patterns, * and ? are known"));
                }
                "reference" => all.references.push(value.to_owned()),
                "before" => once(&mut all.before, condition, value)?,
                "since" => once(&mut all.since, condition, value)?,
                _ => return Err(wrong(condition, "not known; before, dangling, label, reference and since are")),
            }
        }
        Ok(all)
    }

    /// Leaves out what does not fit; of an image's names, those that no pattern fits.
    pub(crate) async fn narrow(&self, client: &Client, images: &mut Vec<Image>) -> Result<()> {
        let before = image_created(client, &self.before).await?;
        let since = image_created(client, &self.since).await?;
        images.retain_mut(|image| self.fits(image) && between(moment(image.created_at.as_ref()), since, before));
        Ok(())
    }

    fn fits(&self, image: &mut Image) -> bool {
        let labels = image.config.as_ref().map(|config| &config.labels);
        if !self.labels.iter().all(|label| has(labels, label))
            || self.dangling.is_some_and(|dangling| dangling != image.names.is_empty())
        {
            return false;
        }
        if self.references.is_empty() {
            return true;
        }
        image.names.retain(|name| self.references.iter().any(|pattern| reference_fits(pattern, name)));
        !image.names.is_empty()
    }
}

async fn image_created(client: &Client, image: &str) -> Result<Option<Timestamp>> {
    if image.is_empty() {
        return Ok(None);
    }
    let answer = client.images().get_image(GetImageRequest { image: image.to_owned() }).await?.into_inner();
    Ok(answer.image.and_then(|image| moment(image.created_at.as_ref())))
}

/// A pattern fits a name with its tag or without.
fn reference_fits(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    [familiar(name), repository_and_tag(name).0].iter().any(|name| fits(&pattern, &name.chars().collect::<Vec<_>>()))
}

/// * is any characters but slashes, ? is one of these.
fn fits(pattern: &[char], text: &[char]) -> bool {
    // Where the last star was, and how far what it took reaches.
    let (mut at, mut from, mut star) = (0, 0, None);
    loop {
        match (pattern.get(at), text.get(from)) {
            (None, None) => return true,
            (Some('*'), _) => {
                star = Some((at, from));
                at += 1;
                continue;
            }
            (Some(p), Some(c)) if p == c || (*p == '?' && *c != '/') => {
                (at, from) = (at + 1, from + 1);
                continue;
            }
            _ => {}
        }
        match star {
            Some((begin, taken)) if text.get(taken).is_some_and(|c| *c != '/') => {
                star = Some((begin, taken + 1));
                (at, from) = (begin + 1, taken + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use hull_proto::v1::{ContainerConfig, ExitStatus, ImageConfig, Mount};

    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn conditions(given: &[&str]) -> Result<ContainerConditions> {
        ContainerConditions::parse(&texts(given))
    }

    #[test]
    fn what_the_agent_knows_goes_to_the_agent() {
        let given = ["status=running", "status=exited", "label=a", "label=b=c=d", "name=web", "ancestor=demo/x:1"];
        let got = conditions(&given).unwrap();
        assert!(got.are_the_agents());
        let agent = got.agent;
        assert_eq!(agent.states, [ContainerState::Running, ContainerState::Exited].map(i32::from));
        assert_eq!((agent.labels["a"].as_str(), agent.labels["b"].as_str()), ("", "c=d"));
        assert_eq!((agent.name.as_str(), agent.image.as_str()), ("web", "demo/x:1"));
        let several = conditions(&["name=a", "name=b"]).unwrap();
        assert!(!several.are_the_agents() && several.agent.name.is_empty());
    }

    #[test]
    fn unknown_filters_are_refused() {
        for wrong in ["status=unspecified", "status=frozen", "health=x", "name", "name=", "=x", "exited=soon"] {
            assert!(conditions(&[wrong]).is_err(), "{wrong}");
        }
        assert!(conditions(&["before=a", "before=b"]).unwrap_err().to_string().contains("before"));
        for wrong in ["dangling=maybe", "until=1h", "reference=[a]"] {
            assert!(ImageConditions::parse(&texts(&[wrong])).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_rest_is_looked_at_here() {
        let mount = Mount { source: "/srv".into(), target: "/www".into(), ..Mount::default() };
        let container = Container {
            id: "abc".into(),
            name: "web".into(),
            state: ContainerState::Exited.into(),
            exit: Some(ExitStatus { code: 3, ..ExitStatus::default() }),
            config: Some(ContainerConfig { mounts: vec![mount], ..ContainerConfig::default() }),
            ..Container::default()
        };
        let fits = |given: &[&str]| conditions(given).unwrap().fits(&container);
        assert!(fits(&["exited=3", "exited=4"]) && !fits(&["exited=0"]));
        assert!(fits(&["name=db", "name=/we"]) && !fits(&["name=db", "name=x"]));
        assert!(fits(&["volume=/www"]) && fits(&["volume=/srv"]) && !fits(&["volume=/"]));
        assert!(fits(&["network=none"]) && !fits(&["network=host"]));
        assert!(fits(&["id=ab", "id=x"]) && !fits(&["id=x", "id=y"]));
    }

    #[test]
    fn what_is_to_go() {
        let labels = [("a".to_owned(), "1".to_owned())].into();
        let container = Container {
            config: Some(ContainerConfig { labels, ..ContainerConfig::default() }),
            created_at: Some(prost_types::Timestamp { seconds: 1_000_000_000, nanos: 0 }),
            ..Container::default()
        };
        let fit = |given: &[&str]| PruneConditions::parse(&texts(given)).unwrap().fit(&container);
        assert!(fit(&[]) && fit(&["until=1000000001"]) && !fit(&["until=1000000000"]) && fit(&["until=10m"]));
        assert!(!fit(&["label!=a"]) && !fit(&["label!=b", "label!=a=1"]) && fit(&["label!=a=2", "label!=b"]));
        let conditions = PruneConditions::parse(&texts(&["label=b=c", "label=d"])).unwrap();
        assert_eq!((conditions.agent.labels["b"].as_str(), conditions.agent.labels["d"].as_str()), ("c", ""));
        for wrong in ["name=x", "until=soon", "until=", "label"] {
            assert!(PruneConditions::parse(&texts(&[wrong])).is_err(), "{wrong}");
        }
        assert!(PruneConditions::parse(&texts(&["until=1h", "until=2h"])).is_err());
    }

    #[test]
    fn images() {
        let config = ImageConfig { labels: [("a".to_owned(), "1".to_owned())].into(), ..ImageConfig::default() };
        let names = texts(&["docker.io/demo/busybox:1", "docker.io/library/alpine:3"]);
        let image = || Image { names: names.clone(), config: Some(config.clone()), ..Image::default() };
        let left = |given: &[&str]| {
            let mut image = image();
            ImageConditions::parse(&texts(given)).unwrap().fits(&mut image).then_some(image.names.len())
        };
        assert_eq!(left(&["label=a"]), Some(2));
        assert_eq!(left(&["label=a=2"]), None);
        assert_eq!(left(&["dangling=true"]), None);
        assert_eq!(left(&["reference=alpine"]), Some(1));
        assert_eq!(left(&["reference=*/busy*:?"]), Some(1));
        assert_eq!(left(&["reference=*busybox"]), None);
        assert_eq!(left(&["reference=*:*", "reference=*/*"]), Some(2));
        assert_eq!(left(&["reference=**a*e***"]), Some(1));
    }

    #[test]
    fn times_are_between_others() {
        let at = |seconds| Some(Timestamp::new(seconds, 0).unwrap());
        assert!(between(at(2), at(1), at(3)) && between(None, None, None));
        assert!(!between(at(1), at(1), None) && !between(at(3), None, at(3)) && !between(None, at(1), None));
    }
}
