//! `dscli`, the command line of Chariot: starts, stops and looks at data workers, and runs the proxy.
//!
//! A command is a file. Each has its arguments as a type, and a `run` that returns what the shell gets to see; how
//! failures are told is in `report`. A started worker is this binary again, as the hidden command in `serve`.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

mod bench;
mod daemon;
mod doctor;
mod either_spelling;
mod ending;
mod etcd;
mod evict;
mod failure;
mod holder;
mod keys;
mod launch;
mod log;
mod options;
mod parts;
mod patience;
mod pin;
mod proxy;
mod report;
mod restart;
mod serve;
mod size;
mod spill;
mod start;
mod status;
mod stop;
mod tenants;
mod tls;
mod top;

use failure::Failure;

/// Chariot carries the KV cache of LLMs between vLLM instances through host memory.
#[derive(Parser)]
#[command(name = "dscli", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  dscli start -w --worker_address \"127.0.0.1:31501\"    start this node's data worker
  export DS_WORKER_ADDR=127.0.0.1:31501                tell vLLM (and dscli) where it is
  dscli status                                         see what it holds
  dscli restart -w --worker_address \"127.0.0.1:31501\"  have a new process go on with all of it
  dscli stop -w --worker_address \"127.0.0.1:31501\"     stop it

Options may be written with underscores or dashes: --worker_address, --worker-address.";

#[derive(Subcommand)]
enum Command {
    Start(start::Start),
    Restart(Box<restart::Restart>),
    Stop(stop::Stop),
    Status(status::ShowStatus),
    Top(top::Top),
    Evict(evict::RunEvict),
    Pin(pin::Pin),
    Unpin(pin::Unpin),
    Doctor(doctor::Doctor),
    Proxy(proxy::RunProxy),
    Bench(bench::Bench),
    #[command(hide = true)]
    Serve(serve::Serve),
    #[command(hide = true, name = chariot_bench::PING_PONG_PEER)]
    PingPongPeer(bench::PingPongPeer),
    #[command(hide = true, name = chariot_bench::WRITING_PEER)]
    WritingPeer(bench::WritingPeer),
    #[command(hide = true)]
    BenchNodes(bench::BenchNodes),
}

fn main() -> ExitCode {
    let matches = either_spelling::accept(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let outcome = match cli.command {
        Command::Start(start) => start.run(),
        Command::Restart(restart) => restart.run(),
        Command::Stop(stop) => stop.run(),
        Command::Status(status) => status.run(),
        Command::Top(top) => top.run(),
        Command::Evict(evict) => evict.run(),
        Command::Pin(pin) => pin.run(),
        Command::Unpin(unpin) => unpin.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Proxy(proxy) => proxy.run(),
        Command::Bench(bench) => bench.run(),
        Command::Serve(serve) => serve.run(),
        Command::PingPongPeer(peer) => peer.run(),
        Command::WritingPeer(peer) => peer.run(),
        Command::BenchNodes(bench) => bench.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report::failed(&failure),
    }
}
