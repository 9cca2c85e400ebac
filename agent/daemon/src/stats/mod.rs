use std::collections::BTreeMap;
#[derive(Debug, Clone)]
pub(crate) struct StatsHub;
impl StatsHub {
    pub(crate) fn register(
        &self,
        _: &str,
        _: &str,
        _: BTreeMap<String, String>,
        _: &crate::runtime::cgroup::ContainerCgroup,
    ) {
    }
    pub(crate) fn unregister(&self, _: &str) {}
}
