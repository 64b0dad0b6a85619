// SPDX-License-Identifier: Apache-2.0
//! The edge report: a WAGI guest. One process life per request: the request's line and headers come in the environment
//! (CGI 1.1), its body on stdin; the answer goes to stdout as headers, an empty line, and the body.
//!
//!   GET  /   who asked, and how to use it
//!   POST /   a body of lines `sensor,value` (an empty line or `# …` is skipped) → a table, widest range first
//!
//! Build: rustc -O --target wasm32-wasip1 -C linker=wasm-ld-19 -C opt-level=s main.rs
use std::collections::BTreeMap;
use std::env;
use std::io::{self, BufRead, Write};

const LINE_BYTES_MAX: usize = 256;
const SENSORS_MAX: usize = 1000;

#[derive(Default)]
struct Range {
    count: u64,
    min: f64,
    max: f64,
    sum: f64,
}

/// What CGI says of the request; an absent variable is an empty text.
fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

fn respond(status: &str, body: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "Status: {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    out.flush()
}

fn parse_line(line: &str) -> Result<(&str, f64), String> {
    let (sensor, value) = line.split_once(',').ok_or("has no comma between sensor and value")?;
    let sensor = sensor.trim();
    if sensor.is_empty() {
        return Err("names no sensor".into());
    }
    let value: f64 = value.trim().parse().map_err(|_| format!("has '{}' where a number should be", value.trim().escape_default()))?;
    if !value.is_finite() {
        return Err("has a value that is not finite".into());
    }
    Ok((sensor, value))
}

/// Reads the body line by line, so that memory does not grow with it.
fn read_report(mut input: impl BufRead) -> Result<BTreeMap<String, Range>, String> {
    let mut sensors: BTreeMap<String, Range> = BTreeMap::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let got = io::Read::take(&mut input, LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line);
        if got.map_err(|error| format!("line {number} could not be read: {error}"))? == 0 {
            break;
        }
        if line.len() > LINE_BYTES_MAX {
            return Err(format!("line {number} is longer than {LINE_BYTES_MAX} bytes"));
        }
        let text = std::str::from_utf8(&line).map_err(|_| format!("line {number} is not UTF-8"))?.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (sensor, value) = parse_line(text).map_err(|reason| format!("line {number} {reason}"))?;
        if sensors.len() == SENSORS_MAX && !sensors.contains_key(sensor) {
            return Err(format!("line {number} names more than {SENSORS_MAX} sensors; split the report"));
        }
        let range = sensors.entry(sensor.to_string()).or_insert(Range { min: value, max: value, ..Range::default() });
        range.count += 1;
        range.sum += value;
        range.min = range.min.min(value);
        range.max = range.max.max(value);
    }
    if sensors.is_empty() {
        return Err("the report has no readings; send lines like t1,21.5".into());
    }
    Ok(sensors)
}

fn table(sensors: &BTreeMap<String, Range>) -> String {
    let mut rows: Vec<_> = sensors.iter().collect();
    rows.sort_by(|a, b| (b.1.max - b.1.min).total_cmp(&(a.1.max - a.1.min)));
    let mut out = format!("{:<20} {:>8} {:>12} {:>12} {:>12}\n", "sensor", "count", "min", "mean", "max");
    for (name, range) in rows {
        let mean = range.sum / range.count as f64;
        out += &format!("{name:<20} {:>8} {:>12.3} {mean:>12.3} {:>12.3}\n", range.count, range.min, range.max);
    }
    out
}

fn usage() -> String {
    format!(
        "edge-report: POST lines of `sensor,value`, get a table.\nasked by {} with {} {} over {} on {}:{}\n",
        variable("REMOTE_ADDR"),
        variable("REQUEST_METHOD"),
        variable("PATH_INFO"),
        variable("SERVER_PROTOCOL"),
        variable("SERVER_NAME"),
        variable("SERVER_PORT"),
    )
}

fn main() -> io::Result<()> {
    match variable("REQUEST_METHOD").as_str() {
        "GET" | "HEAD" => respond("200 OK", &usage()),
        "POST" => match read_report(io::stdin().lock()) {
            Ok(sensors) => respond("200 OK", &table(&sensors)),
            Err(reason) => respond("400 Bad Request", &format!("{reason}\n")),
        },
        method => respond("405 Method Not Allowed", &format!("'{}' is not served here; use GET or POST\n", method.escape_default())),
    }
}
