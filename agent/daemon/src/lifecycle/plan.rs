use super::config::*;
use crate::error::Result;
pub(crate) fn exec_process(
    _: &oci_spec::runtime::Spec,
    _: &ContainerConfig,
    _: &ExecConfig,
    _: &super::security::seccomp::SeccompCache,
) -> Result<hull_wire::ProcessPlan> {
    Err(crate::error::Error::invalid("a", "b"))
}
