//! Pulls against references that use the congestion control that workers choose, where that is not the system's.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Result;
use chariot_tcp::unpace;
use rustix::net::sockopt::tcp_congestion;

use super::blocks::Names;
use super::iperf3::Iperf3;
use super::raw::RawPair;
use super::transfers::{MANY, ONE, pull};
use super::{Node, NodesConfig};
use crate::Row;
use crate::sample::{Round, compared};

const RAW: &str = "one TCP request and response with the workers' congestion control";
const IPERF3: &str = "the better of iperf3 with 1 and 4 streams with the workers' congestion control";

pub(super) fn measure(nodes: &[Node], config: &NodesConfig, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    let Some(chosen) = chosen()? else { return Ok(Vec::new()) };
    let (holder, asker) = (&nodes[0], &nodes[1]);
    let mut raw = RawPair::connect(&holder.place, &asker.place, ONE.len, |listener| unpace(listener))?;
    let iperf3 = Iperf3::start(&config.iperf3, &holder.place, &asker.place)?;
    let (mut one, mut many) = (Vec::new(), Vec::new());
    let mut names = Names::new();
    for round in 0..config.rounds {
        progress(&format!("pulls against {chosen}, round {} of {}", round + 1, config.rounds));
        one.push(Round { value: pull(holder, asker, ONE, &mut names)?, reference: raw.rate(ONE)? });
        many.push(Round {
            value: pull(holder, asker, MANY, &mut names)?,
            reference: iperf3.rates(Some(&chosen))?.best(),
        });
    }
    let row = |shape: &str| format!("pull_{shape}_unpaced");
    Ok(vec![compared(&row(ONE.name), "GB/s", RAW, &one), compared(&row(MANY.name), "GB/s", IPERF3, &many)])
}

/// The congestion control that workers choose for their connections, where it is not the system's.
fn chosen() -> Result<Option<String>> {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let of_system = tcp_congestion(&socket)?;
    unpace(&socket);
    Ok(Some(tcp_congestion(&socket)?).filter(|chosen| *chosen != of_system))
}
