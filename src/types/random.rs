//! Random names, and the error that the system has no random numbers.

use aws_lc_rs::rand;

/// The system gives no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct RandomUnavailable;

/// A name of 128 random bits, which nobody else has and nobody can guess.
pub fn random_name() -> Result<[u8; 16], RandomUnavailable> {
    let mut name = [0; 16];
    rand::fill(&mut name).map_err(|_| RandomUnavailable)?;
    Ok(name)
}
