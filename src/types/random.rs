//! Random octets, and the error that the system has no random numbers.

use aws_lc_rs::rand;

/// The system gives no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct RandomUnavailable;

/// 128 random bits: a value that nobody else has and nobody can guess.
pub fn random_octets() -> Result<[u8; 16], RandomUnavailable> {
    let mut octets = [0; 16];
    rand::fill(&mut octets).map_err(|_| RandomUnavailable)?;
    Ok(octets)
}
