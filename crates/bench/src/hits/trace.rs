//! [`Trace`]: requests, each with a prompt that is a chain of blocks.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// One hour of a chat service; the file says whence.
const CONVERSATION: &str = include_str!("../../traces/mooncake_conversation.txt");

/// Blocks of all requests of a trace together: what is more does not fit into a bench's memory.
const MAX_USES: usize = 1 << 26;

/// A block of a trace, numbered in the order of first appearance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Numbered(pub(crate) u32);

impl Numbered {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Who reads what was put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Readers {
    /// The instance that computed it has it, and reads only what it finds.
    SameInstance,
    /// Another instance goes on with each request, and reads its whole prompt once more.
    Decode,
}

/// Requests, each with a prompt that is a chain of blocks: equal blocks follow equal blocks.
#[derive(Clone, Debug)]
pub struct Trace {
    pub(crate) name: String,
    pub(crate) requests: Vec<Vec<Numbered>>,
    /// What each block follows; one entry a block.
    pub(crate) parents: Vec<Option<Numbered>>,
    pub(crate) readers: Readers,
}

impl Trace {
    /// The published trace.
    pub(crate) fn conversation() -> Self {
        let mut chains = Chains::default();
        for line in CONVERSATION.lines().filter(|line| !line.starts_with('#')) {
            let (after, count) = line.split_once(' ').expect("two words a line");
            let number = |word: &str| word.parse::<u32>().expect("a number");
            let after = (after != "-").then(|| Numbered(number(after)));
            chains.extend(after, number(count));
        }
        chains.into_trace("conversation", Readers::SameInstance)
    }

    /// The same requests, each of which another instance goes on with.
    pub(crate) fn with_decode(self) -> Self {
        Self { name: format!("{}, then decode", self.name), readers: Readers::Decode, ..self }
    }

    /// Reads a trace as Mooncake publishes them: a line of JSON a request, of which `hash_ids` is the chain of blocks.
    pub fn read(path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Line {
            hash_ids: Vec<u64>,
        }
        let file = std::fs::File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
        let mut chains = Chains::default();
        let mut uses = 0;
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let place = || format!("line {} of `{}`", number + 1, path.display());
            let line = line.with_context(place)?;
            if line.trim().is_empty() {
                continue;
            }
            let line: Line = serde_json::from_str(&line).with_context(place)?;
            uses += line.hash_ids.len();
            ensure!(uses <= MAX_USES, "`{}` has more than `{MAX_USES}` blocks", path.display());
            chains.add(&line.hash_ids);
        }
        ensure!(uses > 0, "`{}` has no request with a block", path.display());
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Ok(chains.into_trace(&name, Readers::SameInstance))
    }

    /// What the trace is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn blocks(&self) -> usize {
        self.parents.len()
    }

    /// How many blocks all requests have together.
    pub(crate) fn uses(&self) -> u64 {
        self.requests.iter().map(|chain| chain.len() as u64).sum()
    }
}

/// A trace in the making: tells which block follows which.
#[derive(Default)]
pub(crate) struct Chains {
    requests: Vec<Vec<Numbered>>,
    parents: Vec<Option<Numbered>>,
    /// The block that holds some content after another block.
    known: HashMap<(Option<Numbered>, u64), Numbered>,
}

impl Chains {
    /// Adds a request, whose blocks have these contents one after another.
    pub(crate) fn add(&mut self, contents: &[u64]) {
        let mut last = None;
        let chain = contents.iter().map(|content| {
            let next = Numbered(self.parents.len() as u32);
            let block = *self.known.entry((last, *content)).or_insert(next);
            if block == next {
                self.parents.push(last);
            }
            last = Some(block);
            block
        });
        let chain = chain.collect();
        self.requests.push(chain);
    }

    /// Adds a request whose chain leads up to `last` and goes on with `count` blocks that are new.
    fn extend(&mut self, mut last: Option<Numbered>, count: u32) {
        let mut chain: Vec<Numbered> = std::iter::successors(last, |block| self.parents[block.index()]).collect();
        chain.reverse();
        for _ in 0..count {
            let block = Numbered(self.parents.len() as u32);
            self.parents.push(last);
            last = Some(block);
            chain.push(block);
        }
        self.requests.push(chain);
    }

    pub(crate) fn into_trace(self, name: &str, readers: Readers) -> Trace {
        Trace { name: name.to_owned(), requests: self.requests, parents: self.parents, readers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_trace_is_all_there() {
        let trace = Trace::conversation();
        assert_eq!((trace.requests.len(), trace.uses(), trace.blocks()), (12_031, 288_500, 182_790));
    }

    #[test]
    fn every_block_follows_the_one_before_it_in_whichever_request() {
        let mut chains = Chains::default();
        chains.add(&[7, 8]);
        chains.add(&[7, 9, 8]);
        let trace = chains.into_trace("test", Readers::SameInstance);
        assert_eq!(trace.requests, [vec![Numbered(0), Numbered(1)], vec![Numbered(0), Numbered(2), Numbered(3)]]);
        assert_eq!(trace.parents, [None, Some(Numbered(0)), Some(Numbered(0)), Some(Numbered(2))]);
    }

    #[test]
    fn a_file_is_read_as_it_is_published() {
        let file = tempfile::NamedTempFile::with_suffix("chat.jsonl").unwrap();
        let line = |ids: &str| format!("{{\"timestamp\": 5, \"input_length\": 900, \"hash_ids\": {ids}}}\n");
        std::fs::write(&file, line("[3, 4]") + &line("[3, 4, 90]")).unwrap();
        let trace = Trace::read(file.path()).unwrap();
        assert_eq!((trace.requests.len(), trace.blocks(), trace.uses()), (2, 3, 5));
        std::fs::write(&file, "{\"hash_ids\": [1, -1]}").unwrap();
        let error = format!("{:#}", Trace::read(file.path()).unwrap_err());
        assert!(error.contains("line 1 of") && error.contains("-1"), "{error}");
    }
}
