//! One suite for both engines.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::io::threads::Threads;
use crate::io::uring::Uring;
use crate::io::{Buffer, Done, Engine, Operation, Way};
use crate::layout::PAGE;
use crate::memory::Memory;
use crate::pages::Pages;

const SOON: Duration = Duration::from_secs(20);
const DEPTH: u32 = 8;

macro_rules! on_both_engines {
    ($($name:ident)*) => {
        mod uring {
            $(#[test] fn $name() { super::$name(super::uring); })*
        }
        mod threads {
            $(#[test] fn $name() { super::$name(super::threads); })*
        }
    };
}

on_both_engines! {
    what_is_written_is_read
    pieces_are_one_after_the_other
    many_operations_are_under_way_at_once
    lent_memory_is_let_go_with_the_operation
    a_read_beyond_the_end_is_an_error
    a_wait_ends_with_its_time
    a_wait_ends_with_the_bell_whenever_it_was_rung
}

type Make = fn(&File) -> Box<dyn Engine>;

fn uring(file: &File) -> Box<dyn Engine> {
    match Uring::new(file, DEPTH) {
        Ok(engine) => Box::new(engine),
        Err(error) => {
            eprintln!("io_uring cannot be used here, its tests run on threads: {error}");
            threads(file)
        }
    }
}

fn threads(file: &File) -> Box<dyn Engine> {
    Box::new(Threads::new(file.try_clone().unwrap(), DEPTH as usize).unwrap())
}

fn page(fill: u8) -> Buffer {
    let mut page = Pages::zeroed(1);
    page.fill(fill);
    Buffer::Own(page)
}

fn operation(id: u64, way: Way, page: u64, buffers: Vec<Buffer>) -> Operation {
    Operation { id, way, offset: page * PAGE, buffers }
}

fn all(engine: &mut dyn Engine, count: usize) -> Vec<Done> {
    let (until, mut done) = (Instant::now() + SOON, Vec::new());
    while done.len() < count {
        assert!(Instant::now() < until, "{} of {count} are done", done.len());
        engine.wait(until, &mut done);
    }
    done
}

fn content(done: &Done) -> Vec<u8> {
    let bytes = |buffer: &Buffer| match buffer {
        Buffer::Own(pages) => pages.to_vec(),
        Buffer::Lent { memory, len } => memory.first(*len).to_vec(),
    };
    done.operation.buffers.iter().flat_map(bytes).collect()
}

fn what_is_written_is_read(make: Make) {
    let file = tempfile::tempfile().unwrap();
    let mut engine = make(&file);
    engine.start(operation(1, Way::Write, 3, vec![page(7)]));
    let done = all(engine.as_mut(), 1).remove(0);
    assert_eq!(done.operation.id, 1);
    done.result.unwrap();
    engine.start(operation(2, Way::Read, 3, vec![page(0)]));
    let done = all(engine.as_mut(), 1).remove(0);
    assert_eq!((content(&done), done.operation.id), (vec![7; PAGE as usize], 2));
}

fn pieces_are_one_after_the_other(make: Make) {
    let file = tempfile::tempfile().unwrap();
    let mut engine = make(&file);
    engine.start(operation(0, Way::Write, 0, (0..100).map(page).collect()));
    all(engine.as_mut(), 1).remove(0).result.unwrap();
    let mut read = vec![0; 100 * PAGE as usize];
    file.read_exact_at(&mut read, 0).unwrap();
    assert!(read.chunks(PAGE as usize).zip(0..).all(|(page, fill)| page.iter().all(|byte| *byte == fill)));
    engine.start(operation(0, Way::Read, 10, (0..50).map(|_| page(0)).collect()));
    assert!(content(&all(engine.as_mut(), 1)[0]) == read[10 * PAGE as usize..60 * PAGE as usize]);
}

fn many_operations_are_under_way_at_once(make: Make) {
    let file = tempfile::tempfile().unwrap();
    let mut engine = make(&file);
    for id in 0..200 {
        engine.start(operation(id, Way::Write, id, vec![page(id as u8)]));
    }
    let mut written: Vec<u64> = all(engine.as_mut(), 200).iter().map(|done| done.operation.id).collect();
    written.sort_unstable();
    assert_eq!(written, (0..200).collect::<Vec<_>>());
    for id in 0..200 {
        engine.start(operation(id, Way::Read, id, vec![page(0)]));
    }
    for done in all(engine.as_mut(), 200) {
        assert_eq!(content(&done), vec![done.operation.id as u8; PAGE as usize]);
    }
}

fn lent_memory_is_let_go_with_the_operation(make: Make) {
    struct Owner(Pages, Arc<AtomicUsize>);
    impl Drop for Owner {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (file, let_go) = (tempfile::tempfile().unwrap(), Arc::new(AtomicUsize::new(0)));
    let mut engine = make(&file);
    let mut owner = Owner(Pages::zeroed(2), let_go.clone());
    owner.0.fill(9);
    let bytes = std::ptr::NonNull::from(&mut *owner.0);
    // SAFETY: the owner has the pages, on the heap, and nobody else uses them.
    let memory = unsafe { Memory::new(bytes, owner) };
    let lent = Buffer::Lent { memory, len: PAGE as usize };
    engine.start(operation(0, Way::Write, 0, vec![page(1), lent]));
    let done = all(engine.as_mut(), 1).remove(0);
    assert_eq!((file.metadata().unwrap().len(), let_go.load(Ordering::SeqCst)), (2 * PAGE, 0));
    drop(done);
    assert_eq!(let_go.load(Ordering::SeqCst), 1);
}

fn a_read_beyond_the_end_is_an_error(make: Make) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(PAGE).unwrap();
    let mut engine = make(&file);
    engine.start(operation(0, Way::Read, 0, vec![page(1), page(1)]));
    engine.start(operation(1, Way::Read, 5, vec![page(1)]));
    assert!(all(engine.as_mut(), 2).iter().all(|done| done.result.is_err()));
}

fn a_wait_ends_with_its_time(make: Make) {
    let file = tempfile::tempfile().unwrap();
    let mut engine = make(&file);
    let (until, mut done) = (Instant::now() + Duration::from_millis(20), Vec::new());
    engine.wait(until, &mut done);
    assert!(done.is_empty() && Instant::now() >= until);
}

fn a_wait_ends_with_the_bell_whenever_it_was_rung(make: Make) {
    let file = tempfile::tempfile().unwrap();
    let mut engine = make(&file);
    let (bell, mut done) = (engine.bell(), Vec::new());
    let begin = Instant::now();
    for _ in 0..3 {
        bell.ring();
        bell.ring();
        engine.wait(begin + SOON, &mut done);
    }
    let ringer = std::thread::spawn(move || bell.ring());
    engine.wait(begin + SOON, &mut done);
    ringer.join().unwrap();
    assert!(begin.elapsed() < SOON && done.is_empty());
}
