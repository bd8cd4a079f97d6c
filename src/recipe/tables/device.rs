//! The word for a device. Finding and using it is left to `machine`.

/// The device that a word of a recipe names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceName {
    Cpu,
    Cuda(usize),
}

impl DeviceName {
    /// `cpu`, `cuda` or `cuda:N`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            other => {
                let is_digit = |byte: u8| byte.is_ascii_digit();
                let index = other.strip_prefix("cuda:").filter(|index| index.bytes().all(is_digit));
                Some(Self::Cuda(index?.parse().ok()?))
            }
        }
    }
}
