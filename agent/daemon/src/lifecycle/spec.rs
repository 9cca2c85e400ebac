use super::config::*;
use crate::error::Result;
pub(crate) fn validate(_: &ContainerConfig) -> Result<()> {
    Ok(())
}
pub(crate) fn validate_exec(_: &ExecConfig) -> Result<()> {
    Ok(())
}
pub(crate) fn validate_resources(_: &str, _: &Resources) -> Result<()> {
    Ok(())
}
