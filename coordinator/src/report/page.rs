//! The page itself.

use serde_json::Value;

use super::Report;
use super::chart::{Line, chart};
use super::series::Bucket;
use crate::config;
use crate::time::utc;

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}\
    table{border-collapse:collapse}td,th{padding:.15em .8em;border-bottom:1px solid #ddd;text-align:left}\
    figure{display:inline-block;width:33em;max-width:100%;margin:0 1em 1em 0}figcaption{font-weight:bold}\
    svg{width:100%}polyline{fill:none;stroke-width:1.5}.grid{stroke:#ddd}text{font-size:11px;fill:#555}\
    .y{text-anchor:end}.x{text-anchor:middle}.key{font-size:13px}pre{background:#f6f6f6;padding:1em;overflow:auto}";

const STAGES: [&str; 4] = ["UNDERSTAND", "PLAN", "EXECUTE", "VERIFY"];

/// A report as HTML.
pub(super) fn page(report: &Report) -> String {
    let title = format!("Run {}", escape(&report.run));
    [
        format!(
            "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style>"
        ),
        format!("<h1>{title}</h1>{}", summary(report)),
        report.scores.as_ref().map_or_else(String::new, scores),
        format!("<h2>Curves</h2>{}", curves(report)),
        format!("<h2>Events</h2>{}", events(report)),
        format!("<h2>Audit</h2><pre>{}</pre>", escape(&report.proof.to_string())),
        format!("<h2>Configuration</h2>{}</html>\n", configuration(report)),
    ]
    .concat()
}

fn summary(report: &Report) -> String {
    let history = &report.history;
    let hours = history.last_ms.saturating_sub(history.first_ms) as f64 / 3_600_000.0;
    let state = if history.ended { "finished" } else { "not finished" };
    let shares: Vec<String> =
        history.workers.iter().map(|(worker, count)| format!("{} {count}", escape(worker))).collect();
    format!(
        "<p>{state}: {} steps, {} to {} ({hours:.2} h). Microbatches by worker: {}.</p>",
        history.steps,
        utc(history.first_ms),
        utc(history.last_ms),
        shares.join(", ")
    )
}

fn scores(json: &Value) -> String {
    const ROWS: [(&str, &str); 10] = [
        ("accuracy", "/accuracy"),
        ("RFS", "/rfs"),
        ("RFS-format", "/rfs_format"),
        ("SVR: correction", "/svr/correction"),
        ("SVR: detection", "/svr/detection"),
        ("SVR: false alarm", "/svr/false_alarm"),
        ("J = detection - false alarm", "/svr/j"),
        ("SVR-live: repaired", "/svr/live"),
        ("SVR-live: broken", "/svr/broken"),
        ("SVR-live: net gain", "/svr/net_gain"),
    ];
    let figure = |side: &str, pointer: &str| {
        let figure = &json[side].pointer(pointer).cloned().unwrap_or_default();
        let number = |key: &str| figure[key].as_f64().map(|value| 100.0 * value);
        match (number("value"), number("low"), number("high"), figure["n"].as_u64()) {
            (Some(value), Some(low), Some(high), Some(n)) => format!("{value:.1} % [{low:.1}, {high:.1}], n = {n}"),
            _ => "-".to_owned(),
        }
    };
    let row = |(name, pointer): (&str, &str)| {
        format!("<tr><td>{name}<td>{}<td>{}", figure("base", pointer), figure("trained", pointer))
    };
    let rows: String = ROWS.into_iter().map(row).collect();
    format!("<h2>Scores</h2><table><tr><th>95 % intervals<th>before training<th>after training{rows}</table>")
}

fn curves(report: &Report) -> String {
    let buckets = &report.history.buckets;
    let points = |of: &dyn Fn(&Bucket) -> Option<f64>| -> Vec<(f64, f64)> {
        buckets.iter().filter_map(|bucket| Some((bucket.step as f64, of(bucket)?))).collect()
    };
    let by_stage = |of: fn(&Bucket, usize) -> Option<f64>| -> Vec<Line> {
        let line = |stage: usize| Line { name: STAGES[stage], points: points(&|bucket| of(bucket, stage)) };
        (0..4).map(line).collect()
    };
    let single = |points| [Line { name: "", points }];
    [
        chart("loss by stage, nats a token", &by_stage(|bucket, stage| bucket.total.mean_loss(stage))),
        chart("token accuracy by stage", &by_stage(Bucket::accuracy)),
        chart("loss on the holdout, nats a token", &single(report.holdout.clone())),
        chart("gradient norm before clipping", &single(points(&|bucket| Some(bucket.norm())))),
        chart("learning rate", &single(points(&|bucket| Some(bucket.learning_rate)))),
        chart("tokens a second", &single(points(&Bucket::tokens_per_s))),
    ]
    .concat()
}

fn events(report: &Report) -> String {
    let row = |(ms, words): &(u64, String)| format!("<tr><td>{}<td>{}", utc(*ms), escape(words));
    let rows: String = report.history.events.iter().map(row).collect();
    let more = match report.history.more_events {
        0 => String::new(),
        more => format!("<p>and {more} more</p>"),
    };
    format!("<table>{rows}</table>{more}")
}

fn configuration(report: &Report) -> String {
    let row = |(key, value): (String, String)| format!("<tr><td>{}<td>{}", escape(&key), escape(&value));
    let rows: String = config::flat(&report.config).into_iter().map(row).collect();
    format!("<table>{rows}</table>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
