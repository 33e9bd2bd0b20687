//! Measures how fast FETCH responses of an upstream are parsed, without I/O.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use popgate::imap::fetch::{self, Fetch};

fn parse(line: &[u8]) -> Option<u32> {
    let mut fetch = Fetch::default();
    fetch.parse(fetch::data(line)?).ok()?;
    fetch.uid.map(|uid| uid.0)
}

fn responses(c: &mut Criterion) {
    let mut group = c.benchmark_group("fetch");
    group.throughput(Throughput::Elements(1));
    for (name, line) in [
        ("size", "99999 FETCH (UID 123456 RFC822.SIZE 48213)"),
        (
            "size and flags",
            "99999 FETCH (UID 123456 FLAGS (\\Seen \\Answered $Junk) RFC822.SIZE 48213 MODSEQ (90071))",
        ),
        ("head of a body", "99999 FETCH (UID 123456 BODY[] {48213}"),
    ] {
        assert_eq!(parse(line.as_bytes()), Some(123_456));
        group.bench_function(name, |b| b.iter(|| parse(black_box(line.as_bytes()))));
    }
}

criterion_group!(benches, responses);
criterion_main!(benches);
