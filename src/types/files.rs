//! Files that the configuration names.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The largest file that is read, in octets. No list of passwords or certificates is nearly that large.
const LARGEST: u64 = 16 * 1024 * 1024;

/// The octets of `file`. Fails if there are more than 16 MiB: a device such as /dev/zero has no end.
pub fn read_file(file: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(file)?.take(LARGEST + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "holds more than 16 MiB"));
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_a_bound() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        for length in [0, 1, LARGEST] {
            std::fs::write(&file, vec![b'x'; usize::try_from(length).unwrap()]).unwrap();
            assert_eq!(read_file(&file).unwrap().len() as u64, length);
        }
        std::fs::write(&file, vec![b'x'; usize::try_from(LARGEST + 1).unwrap()]).unwrap();
        assert_eq!(read_file(&file).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
