//! `info` and `version`.

use std::io::Write as _;

use hull_proto::v1::{CgroupMode, Feature, GetInfoRequest, GetInfoResponse};
use jiff::Timestamp;

use crate::cli::{InfoFlags, VersionFlags};
use crate::client::Client;
use crate::error::Result;
use crate::output::docker::{node_details, version_details};
use crate::output::{self, ClientVersion, NodeView, Shape, Versions, ago, bytes, moment};

/// Shows the node and its agent.
pub(crate) async fn info(connect: impl Future<Output = Result<Client>>, flags: InfoFlags) -> Result<u8> {
    let shape = Shape::of(flags.output.output, flags.format.as_deref())?;
    let info = agent(connect).await?;
    match shape {
        Shape::Data(format) => output::data(format, &NodeView::from(info))?,
        Shape::Template(template) => template.print(&[], std::iter::once(node_details(&info)))?,
        Shape::People => print_info(&info)?,
    }
    Ok(0)
}

fn print_info(info: &GetInfoResponse) -> Result<()> {
    let cgroups = match info.cgroup_mode() {
        CgroupMode::Unspecified => "unknown",
        CgroupMode::Legacy => "v1",
        CgroupMode::Hybrid => "v1 and v2 (hybrid)",
        CgroupMode::Unified => "v2",
    };
    let up = ago(moment(info.started_at.as_ref()), Timestamp::now());
    let lines = [
        ("Containers", format!("{} ({} running)", info.containers, info.containers_running)),
        ("Images", info.images.to_string()),
        ("Agent", format!("hulld {} ({}), process {}, started {up} ago", info.version, info.api_version, info.pid)),
        ("Data directory", info.data_dir.clone()),
        ("Run directory", info.run_dir.clone()),
        ("Control groups", format!("{cgroups}: {}", info.cgroup_controllers.join(" "))),
        ("Control group parent", info.cgroup_parent.clone()),
        ("Host name", info.hostname.clone()),
        ("Kernel", format!("{} ({})", info.kernel_version, info.architecture)),
        ("Processors", info.cpus.to_string()),
        ("Memory", bytes(info.memory_bytes)),
    ];
    let mut out = output::stdout();
    for (name, value) in lines {
        writeln!(out, "{:<22}{}", format!("{name}:"), crate::error::one_line(&value))?;
    }
    let names = |available: bool| info.features.iter().filter(move |feature| feature.available == available);
    let list: Vec<&str> = names(true).map(|feature| feature.name.as_str()).collect();
    writeln!(out, "{:<22}{}", "Features:", list.join(" "))?;
    for feature in names(false) {
        writeln!(out, "{:<22}{}", "Missing:", missing(feature))?;
    }
    Ok(out.flush()?)
}

fn missing(feature: &Feature) -> String {
    if feature.detail.is_empty() { feature.name.clone() } else { format!("{}: {}", feature.name, feature.detail) }
}

/// Shows versions of both ends; of this one even where the other cannot be asked.
pub(crate) async fn version(connect: impl Future<Output = Result<Client>>, flags: VersionFlags) -> Result<u8> {
    let shape = Shape::of(flags.output.output, flags.format.as_deref())?;
    let asked = if flags.client { None } else { Some(agent(connect).await) };
    let (agent, error) = match asked {
        None => (None, None),
        Some(Ok(info)) => (Some(info), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let details = || version_details(&ClientVersion::OWN, agent.as_ref());
    let versions = || Versions { client: ClientVersion::OWN, agent: agent.clone().map(Into::into) };
    match shape {
        Shape::Data(format) => output::data(format, &versions())?,
        Shape::Template(template) => template.print(&[], std::iter::once(details()))?,
        Shape::People => print_versions(&versions())?,
    }
    error.map_or(Ok(0), Err)
}

async fn agent(connect: impl Future<Output = Result<Client>>) -> Result<GetInfoResponse> {
    Ok(connect.await?.node().get_info(GetInfoRequest {}).await?.into_inner())
}

fn print_versions(versions: &Versions) -> Result<()> {
    let Versions { client, agent } = versions;
    let mut out = output::stdout();
    writeln!(out, "hullctl {} ({}), {}/{}", client.version, client.api_version, client.os, client.architecture)?;
    if let Some(agent) = agent {
        let (version, api, kernel) = (&agent.version, &agent.api_version, &agent.kernel_version);
        writeln!(out, "hulld   {version} ({api}), Linux {kernel}, {}", agent.architecture)?;
    }
    Ok(out.flush()?)
}
