//! Traces drawn at random, always the same from the same seed: each is one habit of those who use models.
//!
//! Times are seconds, and serve to mix what happens at the same time; lengths are blocks.

use anyhow::Result;
use rand_distr::{Distribution, Exp, Geometric, LogNormal, Uniform, Zipf};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::SeedableRng;

use super::trace::{Chains, Readers, Trace};

/// How long a trace lasts.
const HOUR: f64 = 3600.0;

/// Prompts are no longer than this.
const LONGEST: usize = 250;

/// All kinds of drawn traces.
pub(crate) fn traces(seed: u64) -> Result<Vec<Trace>> {
    let mut traces = vec![
        draw("chat", seed, |draft| draft.chats(4000, CHAT))?,
        draw("agents", seed, |draft| draft.agents(1200))?,
        draw("chat and scans", seed, |draft| {
            draft.chats(3000, CHAT)?;
            (0..6).try_for_each(|_| draft.scan(120))
        })?,
        draw("chat and a loop", seed, |draft| {
            draft.chats(2500, CHAT)?;
            draft.repeated(400, 5)
        })?,
        draw("documents", seed, |draft| draft.documents(0..8000, 1500, 1.0))?,
        draw("documents of the day", seed, |draft| {
            (0..8).try_for_each(|day| draft.documents(day * 1000..(day + 1) * 1000, 400, 0.9))
        })?,
        draw("system prompts", seed, |draft| draft.questions(9000, 300))?,
    ];
    let decoded = traces[0].clone().with_decode();
    traces.push(decoded);
    Ok(traces)
}

fn draw(name: &str, seed: u64, draw: impl FnOnce(&mut Draft) -> Result<()>) -> Result<Trace> {
    let mut draft = Draft { random: Pcg64Mcg::seed_from_u64(seed), requests: Vec::new(), fresh: 0 };
    draw(&mut draft)?;
    draft.requests.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut chains = Chains::default();
    draft.requests.iter().for_each(|(_, contents)| chains.add(contents));
    Ok(chains.into_trace(name, Readers::SameInstance))
}

/// How people talk with a model.
#[derive(Clone, Copy)]
struct Talk {
    /// How many system prompts there are; the first is the most usual.
    prompts: u64,
    /// How probable it is that nothing is said any more.
    end: f64,
    /// Median of seconds between two requests.
    pause: f64,
    /// Medians of what the first request adds, and of what each later one does.
    first: f64,
    later: f64,
}

const CHAT: Talk = Talk { prompts: 20, end: 0.4, pause: 60.0, first: 6.0, later: 2.0 };

/// Requests as they are drawn: when, and what each block holds.
struct Draft {
    random: Pcg64Mcg,
    requests: Vec<(f64, Vec<u64>)>,
    fresh: u64,
}

impl Draft {
    /// Conversations that begin at any time. Each request repeats what was said before; the last block of a prompt is
    /// partly filled, and so another one the next time.
    fn chats(&mut self, count: usize, talk: Talk) -> Result<()> {
        let (prompt, pause) = (Zipf::new(talk.prompts as f64, 1.0)?, LogNormal::new(talk.pause.ln(), 1.2)?);
        let (first, later) = (LogNormal::new(talk.first.ln(), 1.0)?, LogNormal::new(talk.later.ln(), 0.8)?);
        for _ in 0..count {
            let mut time = self.any_time()?;
            let prompt = self.draw(prompt) as u64;
            let mut said = repeated_content(prompt, 1 + prompt % 4);
            let mut adds = self.draw(first);
            loop {
                let adds_blocks = (adds as usize).clamp(1, LONGEST);
                said.extend(self.fresh(adds_blocks));
                let tail = self.fresh(1);
                self.requests.push((time, [&said[..], &tail[..]].concat()));
                if said.len() > LONGEST || self.chance(talk.end)? {
                    break;
                }
                time += self.draw(pause);
                adds = self.draw(later);
            }
        }
        Ok(())
    }

    /// Agents that take many steps quickly, each adding to one prompt, and are then done.
    fn agents(&mut self, count: usize) -> Result<()> {
        let (kind, pause) = (Zipf::new(40.0, 1.1)?, LogNormal::new(5f64.ln(), 1.0)?);
        let (steps, adds) = (Geometric::new(0.12)?, Geometric::new(0.5)?);
        for _ in 0..count {
            let mut time = self.any_time()?;
            let kind = self.draw(kind) as u64;
            let mut said = repeated_content(kind, 8 + kind % 24);
            for _ in 0..=self.draw(steps).min(60) {
                let adds_blocks = self.draw(adds) as usize + 1;
                said.extend(self.fresh(adds_blocks));
                self.requests.push((time, said.clone()));
                time += self.draw(pause);
            }
        }
        Ok(())
    }

    /// Long prompts one after another, none of which comes back.
    fn scan(&mut self, count: usize) -> Result<()> {
        let (mut time, len, pause) = (self.any_time()?, LogNormal::new(30f64.ln(), 0.7)?, Exp::new(1.0)?);
        for _ in 0..count {
            let len = (self.draw(len) as usize).clamp(1, LONGEST);
            let contents = self.fresh(len);
            self.requests.push((time, contents));
            time += self.draw(pause);
        }
        Ok(())
    }

    /// The same prompts in the same order, again and again, as an evaluation asks them.
    fn repeated(&mut self, count: usize, times: usize) -> Result<()> {
        let len = LogNormal::new(12f64.ln(), 0.6)?;
        let prompts: Vec<Vec<u64>> = (0..count)
            .map(|_| {
                let len = (self.draw(len) as usize).clamp(1, 100);
                self.fresh(len)
            })
            .collect();
        let pause = HOUR / (times * count) as f64;
        let asked = prompts.iter().cycle().take(times * count).enumerate();
        self.requests.extend(asked.map(|(at, prompt)| (at as f64 * pause, prompt.clone())));
        Ok(())
    }

    /// Questions about documents, of which some are asked for more than others.
    fn documents(&mut self, times: std::ops::Range<u64>, count: u64, skew: f64) -> Result<()> {
        let (which, len, asks) =
            (Zipf::new(count as f64, skew)?, LogNormal::new(12f64.ln(), 0.7)?, Geometric::new(0.5)?);
        let documents: Vec<Vec<u64>> = (0..count)
            .map(|_| {
                let len = (self.draw(len) as usize).clamp(1, 120);
                self.fresh(len)
            })
            .collect();
        for time in times {
            let which = self.draw(which) as usize - 1;
            let question = self.draw(asks) as usize + 1;
            let contents =
                [&repeated_content(0, 2), &documents[which], &self.fresh(question)].map(Vec::as_slice).concat();
            self.requests.push((time as f64, contents));
        }
        Ok(())
    }

    /// Questions that share nothing but the system prompt.
    fn questions(&mut self, count: u64, prompts: u64) -> Result<()> {
        let (which, len) = (Zipf::new(prompts as f64, 1.0)?, LogNormal::new(8f64.ln(), 1.0)?);
        for time in 0..count {
            let which = self.draw(which) as u64;
            let len = (self.draw(len) as usize).clamp(1, 200);
            let contents = [repeated_content(which, 2 + which % 10), self.fresh(len)].concat();
            self.requests.push((time as f64, contents));
        }
        Ok(())
    }

    fn draw<T>(&mut self, distribution: impl Distribution<T>) -> T {
        distribution.sample(&mut self.random)
    }

    fn any_time(&mut self) -> Result<f64> {
        Ok(self.draw(Uniform::new(0.0, HOUR)?))
    }

    fn chance(&mut self, probability: f64) -> Result<bool> {
        Ok(self.draw(Uniform::new(0.0, 1.0)?) < probability)
    }

    /// Contents that were never there before.
    fn fresh(&mut self, count: usize) -> Vec<u64> {
        let from = self.fresh;
        self.fresh += count as u64;
        (from..self.fresh).map(|number| number << 1).collect()
    }
}

/// The same contents for the same `what`, which no [`Draft::fresh`] ones are.
fn repeated_content(what: u64, len: u64) -> Vec<u64> {
    (0..len).map(|at| (what << 8 | at) << 1 | 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_traces() {
        let sizes = || traces(7).unwrap().iter().map(|trace| (trace.uses(), trace.blocks())).collect::<Vec<_>>();
        assert_eq!(sizes(), sizes());
    }
}
