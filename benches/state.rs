//! Measures how fast the index of a large mailbox is encoded, decoded, saved to the file and loaded from it.

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use popgate::{
    state::{FileStore, Index, StateStore},
    types::{MailboxName, Uid},
};
use tokio::runtime::Builder;

const MESSAGES: u32 = 100_000;

fn mailbox() -> MailboxName {
    MailboxName {
        upstream: "home".into(),
        user: "somebody@example.org".into(),
        folder: "INBOX".into(),
    }
}

/// An index in which every third UID is missing, with sizes from 1 KB to 2 MB.
fn large() -> Index {
    let octets = |n: u32| 1_000 + (n.wrapping_mul(2_654_435_761) >> 11);
    Index {
        uid_validity: 1_700_000_000,
        modseq: 1 << 40,
        row: 12,
        entries: (0..MESSAGES).map(|n| (1 + n * 3 / 2, octets(n))).collect(),
        ..Index::default()
    }
}

fn index(c: &mut Criterion) {
    let (mailbox, index) = (mailbox(), large());
    let record = index.encode(&mailbox).unwrap_or_default();
    assert_eq!(Index::decode(&mailbox, &record).as_ref(), Ok(&index));
    let mut group = c.benchmark_group("index");
    group.throughput(Throughput::Elements(MESSAGES.into()));
    group.bench_function("encode", |b| b.iter(|| black_box(&index).encode(&mailbox)));
    group.bench_function("decode", |b| b.iter(|| Index::decode(&mailbox, black_box(&record))));
    group.finish();
}

fn file(c: &mut Criterion) {
    let (mailbox, index) = (mailbox(), Arc::new(large()));
    let more = {
        let mut more = Index::clone(&index);
        more.entries.push(Uid(u32::MAX), 1_000);
        Arc::new(more)
    };
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let store = FileStore::open(dir.path()).expect("a store");
    runtime.block_on(store.set_index(&mailbox, index.clone()));
    let mut group = c.benchmark_group("file");
    group.bench_function("load", |b| b.iter(|| runtime.block_on(store.index(&mailbox))));
    group.bench_function("save, nothing new", |b| {
        b.iter(|| runtime.block_on(store.set_index(&mailbox, index.clone())));
    });
    let mut versions = [&more, &index].into_iter().cycle();
    group.bench_function("save, one message more or less", |b| {
        b.iter(|| runtime.block_on(store.set_index(&mailbox, versions.next().unwrap_or(&index).clone())));
    });
    group.finish();
}

criterion_group!(benches, index, file);
criterion_main!(benches);
