//! Measures the hot paths of POP3 without I/O: parsing command lines and encoding multi-line replies.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use popgate::pop3::{command::Command, multiline::Multiline};

/// About 1 MiB of lines. Each line has `width` octets and then `end`. Every `dots`-th line starts with a dot; none does
/// if `dots` is 0.
fn mail(width: usize, end: &str, dots: usize) -> Vec<u8> {
    let count = (1 << 20) / (width + end.len());
    let line =
        |n: usize| if dots > 0 && n.is_multiple_of(dots) { "." } else { "x" }.to_owned() + &"x".repeat(width - 1) + end;
    (0..count).map(line).collect::<String>().into_bytes()
}

fn multiline(c: &mut Criterion) {
    let mut group = c.benchmark_group("multiline");
    for (name, body) in [
        ("crlf", mail(76, "\r\n", 0)),
        ("crlf, 1 dot in 50 lines", mail(76, "\r\n", 50)),
        ("bare lf", mail(76, "\n", 0)),
        ("short lines, all dots", mail(2, "\r\n", 1)),
        ("one line", mail(1 << 19, "\r\n", 0)),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        let mut out = Vec::with_capacity(1 << 17);
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut encoder = Multiline::new();
                for chunk in body.chunks(1 << 16) {
                    out.clear();
                    encoder.encode(black_box(chunk), &mut out);
                    black_box(&out);
                }
                encoder.finish(&mut out);
            });
        });
    }
}

fn command(c: &mut Criterion) {
    let mut group = c.benchmark_group("command");
    for line in ["STAT", "RETR 12345", "top 7  0 ", "USER somebody@example.org"] {
        group.bench_function(line, |b| b.iter(|| Command::parse(black_box(line.as_bytes()))));
    }
}

criterion_group!(benches, multiline, command);
criterion_main!(benches);
