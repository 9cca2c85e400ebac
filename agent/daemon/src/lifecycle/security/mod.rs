#[derive(Debug, Clone)]
pub(crate) struct SeccompCache;
