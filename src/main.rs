//! Parses the command line, runs the command, and sets the exit code.

use std::process::ExitCode;

use clap::Parser;
use popgate::cli::Cli;

fn main() -> ExitCode {
    allocator::set_up();
    let cli = Cli::parse();
    match cli.run(allocator::give_back) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("popgate: {failure}");
            failure.exit_code()
        }
    }
}

/// Settings of glibc's allocator. By default each thread has a heap of its own, and each heap keeps the memory that a
/// burst of logins leaves free. With these settings all threads share one heap, and the program returns its free pages
/// to the system after a burst. Other allocators, such as musl's, keep their defaults.
#[allow(unsafe_code)] // The only unsafe code: glibc's functions have no safe form.
mod allocator {
    /// `free` returns memory to the system only if this many octets are free at the end of the heap. [`give_back`]
    /// returns the rest later.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    const TRIM: libc::c_int = 64 * 1024 * 1024;
    /// Only allocations of at least this many octets get pages of their own: the system must fill such pages with zeros
    /// each time.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    const OWN_PAGES: libc::c_int = 4 * 1024 * 1024;

    /// Sets the allocator up. Must be called before any other thread runs.
    pub fn set_up() {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        for (parameter, value) in [
            (libc::M_ARENA_MAX, 1),
            (libc::M_TRIM_THRESHOLD, TRIM),
            (libc::M_MMAP_THRESHOLD, OWN_PAGES),
        ] {
            // SAFETY: mallopt only changes a parameter of the allocator, and no other thread runs yet. An invalid value
            // is refused, and changes nothing.
            unsafe { libc::mallopt(parameter, value) };
        }
    }

    /// Returns the free pages of the heap to the system.
    pub fn give_back() {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        // SAFETY: malloc_trim touches nothing but free memory, and may be called by any thread at any time.
        unsafe {
            libc::malloc_trim(0)
        };
    }
}
