//! The report as one page of HTML, with nothing outside of it.

use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::events::{Event, Weight, about, amount, ending, events, rate, signed, since, times};
use super::series::Series;
use super::story::{Evidence, Story, Suspect, clock_of, day_and_clock, stage_name};
use super::tree::{Row, Tree};
use super::{chart, next, open};
use crate::units::{Size, Span};

const STYLE: &str = include_str!("style.css");

/// Nothing is loaded, nothing runs, nothing is sent: whatever an app calls itself.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// How many events stand in the page: the first ones and the last ones of many.
const EVENTS: usize = 80;

/// How many suspects are shown at once; the others can be unfolded.
const SUSPECTS: usize = 5;

/// How deep the tree is indented.
const DEEPEST: usize = 8;

/// The page.
pub fn page(story: &Story) -> String {
    let (headline, numbers) = story.headline();
    let headline = capital(headline);
    let events = events(story);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta name="robots" content="noindex";
                meta name="generator" content={ "memini " (story.memini) };
                title { (headline) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    header {
                        p.brand { "memini incident " (story.id) }
                        h1 { (headline) }
                        (facts(story, numbers))
                    }
                    (who_grew(story))
                    (what_next(story))
                    (charts(story, &events))
                    (tree(story))
                    (what_happened(story, &events))
                    (not_done(story))
                    (artifacts(story))
                    (what_was_run(story))
                }
                footer {
                    "Written by memini " (story.memini) " from incident.json. Times are UTC."
                }
            }
        }
    };
    page.into_string() + "\n"
}

/// A sentence begins with a capital letter, but not with a changed name.
fn capital(sentence: &str) -> String {
    match sentence.strip_prefix("the ") {
        Some(rest) => format!("The {rest}"),
        None => sentence.to_owned(),
    }
}

fn facts(story: &Story, numbers: &str) -> Markup {
    let mut numbers = numbers.split(", ");
    // Where nothing was seen there is no number.
    let level =
        numbers.next().filter(|level| level.starts_with(|letter: char| letter.is_ascii_digit())).unwrap_or_default();
    let rate = numbers.next();
    let forecast = numbers.next();
    html! {
        dl.facts {
            @if !story.outcome.is_empty() {
                div {
                    dt { "Outcome" }
                    dd {
                        (outcome(&story.outcome))
                        @if let Some(code) = story.exit_code {
                            small { "exit code " (code) }
                        }
                    }
                }
            }
            @if !level.is_empty() {
                div {
                    dt { "Memory" }
                    dd { (level) }
                }
            }
            @if let Some(rate) = rate {
                div {
                    dt { "Growth" }
                    dd {
                        (rate)
                        @if let Some(forecast) = forecast {
                            small { (forecast) }
                        }
                    }
                }
            }
            @if !story.began.is_empty() {
                div {
                    dt { "Began" }
                    dd {
                        (day_and_clock(&story.began))
                        @if let Some(duration) = story.duration() {
                            small { "lasted " (Span(duration)) }
                        }
                    }
                }
            }
            div {
                dt { "App" }
                dd {
                    (story.program())
                    @if !story.hostname.is_empty() {
                        small { "on " (story.hostname) }
                    }
                }
            }
        }
    }
}

fn outcome(outcome: &str) -> &str {
    match outcome {
        "open" => "still open",
        "recovered" => "recovered",
        "stopped" => "stopped, left cleanly",
        "killed" => "killed by memini",
        "oom-killed" => "killed by the kernel",
        "exited" => "ended by itself",
        other => other,
    }
}

fn who_grew(story: &Story) -> Markup {
    html! {
        section aria-labelledby="who" {
            h2 id="who" { "Who grew" }
            @match &story.evidence {
                None => p.lead { "Nobody was looked into in this incident." },
                Some(evidence) => {
                    p.lead {
                        @match evidence.growth {
                            Some(growth) => { (signed(growth)) " in " (Span(evidence.span)) ": " },
                            None => "In use: ",
                        }
                        (evidence.place)
                        @if !evidence.is_conclusive && !evidence.suspects.is_empty() && evidence.growth.is_some() {
                            ". Nothing of it explains enough to be called the cause."
                        }
                    }
                    ol.suspects {
                        @for one in evidence.suspects.iter().take(SUSPECTS) {
                            (suspect(one, evidence))
                        }
                    }
                    @if evidence.suspects.len() > SUSPECTS {
                        details {
                            summary { (evidence.suspects.len() - SUSPECTS) " more" }
                            ol.suspects start=(SUSPECTS + 1) {
                                @for one in evidence.suspects.iter().skip(SUSPECTS) {
                                    (suspect(one, evidence))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn suspect(suspect: &Suspect, evidence: &Evidence) -> Markup {
    let whole = evidence.growth.filter(|growth| *growth > 0);
    let share = |bytes: f64| whole.map(|whole| (bytes / whole as f64).clamp(0.0, 1.0));
    let part = suspect.growth.and_then(|growth| share(growth as f64));
    let most = suspect.up_to.and_then(|bytes| share(bytes as f64));
    let looks = evidence.looks.iter().zip(&suspect.sizes).enumerate();
    let is_path = evidence.looks.len() > 1 && suspect.sizes.len() > 1;
    html! {
        li {
            div.amount {
                @match suspect.growth {
                    Some(growth) => {
                        (signed(growth))
                        @if let Some(up_to) = suspect.up_to {
                            small { "up to +" (Size(up_to)) " in all" }
                        } @else if let Some(per_second) = suspect.rate {
                            small { (rate(per_second)) }
                        }
                    },
                    None => (Size(suspect.bytes)),
                }
            }
            div.body {
                h3 { code { (suspect.what) } }
                p.where {
                    (suspect.place)
                    @if let Some(who) = &suspect.process {
                        ", " (who.comm) " (process " (who.pid) ")"
                    }
                    @if let Some(count) = suspect.count {
                        "; " (amount(count)) " of them"
                        @if let Some(more) = suspect.count_growth.filter(|more| *more != 0) {
                            ", " (more_or_fewer(more))
                        }
                    }
                    @if let Some(up_to) = suspect.up_to {
                        "; with what they refer to up to " (Size(up_to))
                    }
                    @if suspect.consistency.is_some_and(|consistency| consistency >= 1.0) {
                        "; more at each look"
                    }
                }
                @if let Some(part) = part {
                    div.meter {
                        svg width="100%" height="4" role="img" aria-label=(heard(part, most)) {
                            @if let Some(most) = most {
                                rect.most width=(percent(most)) height="4" rx="2" {}
                            }
                            rect width=(percent(part)) height="4" rx="2" {}
                        }
                    }
                }
                @if is_path {
                    ol.path {
                        @for (index, (look, size)) in looks {
                            li {
                                span { (stage_name(&look.stage)) " " (clock_of(&look.at)) }
                                @match size {
                                    Some(bytes) => {
                                        (Size(*bytes))
                                        @if let Some(count) = suspect.counts.get(index).copied().flatten() {
                                            ", " (amount(count))
                                        }
                                    },
                                    None => "not known",
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// What somebody hears who does not see how long the bar is.
fn heard(part: f64, most: Option<f64>) -> String {
    let most = most.map(|most| format!(", with what they refer to up to {:.0}%", most * 100.0)).unwrap_or_default();
    format!("{:.0}% of all growth{most}", part * 100.0)
}

fn more_or_fewer(more: i64) -> String {
    let count = amount(more.unsigned_abs());
    if more < 0 { format!("{count} fewer") } else { format!("{count} more") }
}

fn what_next(story: &Story) -> Markup {
    html! {
        section aria-labelledby="next" {
            h2 id="next" { "What next" }
            ul.bullets {
                @for step in next::steps(story) {
                    li {
                        (step.text)
                        @if let Some(code) = &step.code {
                            " " code { (code) }
                        }
                    }
                }
            }
        }
    }
}

fn charts(story: &Story, events: &[Event]) -> Markup {
    let all = Series::of(story);
    let turns: Vec<f64> = events.iter().filter(|event| event.number.is_some()).map(|event| event.seconds).collect();
    let Some(views) = all.views(story.beginning(), &turns) else {
        return html! {
            section aria-labelledby="memory" {
                h2 id="memory" { "Memory" }
                p.lead { "No sample was noted." }
            }
        };
    };
    let length = |span: (f64, f64)| about(Duration::from_secs((span.1 - span.0).max(1.0) as u64));
    html! {
        section aria-labelledby="memory" {
            h2 id="memory" { "Memory" }
            @if let Some(since) = since(story, &all) {
                p.lead { (since) }
            }
            (chart::memory(story, &all, views.main, events, "main"))
            @if let Some(end) = views.end {
                h3.part { "The last " (length(end)) }
                (chart::memory(story, &all, end, events, "end"))
            }
            @if let Some(whole) = views.whole {
                h3.part { "All that was recorded: " (length(whole)) }
                (chart::memory(story, &all, whole, &[], "whole"))
            }
        }
        @if !all.within(views.main).composed().is_empty() {
            section aria-labelledby="composition" {
                h2 id="composition" { "Where the memory is" }
                (chart::composition(story, &all, views.main, "kinds"))
            }
        }
    }
}

fn tree(story: &Story) -> Markup {
    let tree = Tree::of(story);
    if tree.rows.is_empty() {
        return html! {};
    }
    let is_compared = tree.moments.len() > 1;
    html! {
        section aria-labelledby="processes" {
            h2 id="processes" { "Processes" }
            div.wide role="region" aria-labelledby="processes" tabindex="0" {
                table {
                    caption { "What each process held that could not be let go" }
                    thead {
                        tr {
                            th scope="col" { "process" }
                            @for moment in &tree.moments {
                                th scope="col" { (moment.stage) small { (moment.clock) } }
                            }
                            @if is_compared {
                                th scope="col" { "growth" }
                            }
                        }
                    }
                    tbody {
                        @for row in &tree.rows {
                            (process(row, is_compared))
                        }
                        @if tree.others > 0 {
                            tr.note {
                                th scope="row" { "and " (tree.others) " more" }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn process(row: &Row, is_compared: bool) -> Markup {
    let indent = row.depth.min(DEEPEST);
    html! {
        tr {
            th scope="row" style={ "padding-left:" (indent) "em" } {
                @if row.depth > 0 { span aria-hidden="true" { "└ " } }
                (row.name) " " span.where { (row.pid) }
            }
            @for size in &row.sizes {
                td {
                    @match size {
                        Some(bytes) => (Size(*bytes)),
                        None => "–",
                    }
                }
            }
            @if is_compared {
                @match row.growth() {
                    Some(growth) if growth > 0 => td.more { (signed(growth)) },
                    Some(growth) => td { (signed(growth)) },
                    None => td { "–" },
                }
            }
        }
    }
}

fn what_happened(story: &Story, events: &[Event]) -> Markup {
    let half = EVENTS / 2;
    let left_out = events.len().saturating_sub(EVENTS);
    let shown = |index: usize| left_out == 0 || index < half || index >= events.len().saturating_sub(half);
    html! {
        section aria-labelledby="happened" {
            h2 id="happened" { "What happened" }
            @if story.brakes.times > 0 {
                p.lead {
                    "To be looked at, the app was stopped " (times(story.brakes.times)) ", for "
                    (Span(Duration::try_from_secs_f64(story.brakes.stopped).unwrap_or_default())) " in all."
                }
            }
            ol.story {
                @for (index, event) in events.iter().enumerate() {
                    @if shown(index) {
                        li.common[event.weight == Weight::Common] {
                            @match event.number {
                                Some(number) => span.badge { (number) },
                                None => span {},
                            }
                            time { (event.clock) }
                            span { (event.sentence) }
                        }
                    } @else if index == half {
                        li.common { span {} span {} span { "… " (left_out) " more" } }
                    }
                }
            }
            @if story.timeline_entries_lost > 0 {
                p.lead { (story.timeline_entries_lost) " entries found no room in the journal." }
            }
            (hooks(story))
        }
    }
}

fn hooks(story: &Story) -> Markup {
    if story.hooks.is_empty() {
        return html! {};
    }
    html! {
        details {
            summary { "Hooks" }
            ul.bullets {
                @for hook in &story.hooks {
                    li {
                        (hook.stage) ": " code { (hook.command) } ", " (ending(&hook.end))
                        @if let Some(span) = hook.seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
                            " after " (Span(span))
                        }
                        @if !hook.output.is_empty() {
                            ", it printed " code { (hook.output) }
                        }
                    }
                }
            }
        }
    }
}

fn not_done(story: &Story) -> Markup {
    html! {
        section aria-labelledby="not-done" {
            h2 id="not-done" { "What was not done, and why" }
            @if story.not_done.is_empty() {
                p { "Nothing that was called for was left out." }
            } @else {
                ul.bullets {
                    @for undone in &story.not_done {
                        li {
                            @if !undone.at.is_empty() {
                                time { (clock_of(&undone.at)) }
                            }
                            (undone.text)
                        }
                    }
                }
            }
        }
    }
}

fn artifacts(story: &Story) -> Markup {
    html! {
        section aria-labelledby="files" {
            h2 id="files" { "Files, and how to open them" }
            @if story.artifacts.is_empty() {
                p { "There are none." }
            } @else {
                p.lead { "In the folder of the incident, " code { (story.id) } ". They may hold secrets of the app." }
                ul.plain.files {
                    @for file in &story.artifacts {
                        @let opening = open::of_artifact(file);
                        li {
                            h3 { code { (file.file) } }
                            p { (Size(file.bytes)) ", " (opening.what) }
                            @if !file.sha256.is_empty() {
                                p { "SHA-256 " code { (file.sha256) } }
                            }
                            @if !opening.how.is_empty() {
                                p { (opening.how) }
                            }
                            @if !opening.command.is_empty() {
                                pre tabindex="0" { (opening.command) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn what_was_run(story: &Story) -> Markup {
    html! {
        section aria-labelledby="run" {
            h2 id="run" { "What was run" }
            p { "memini " (story.memini) @if !story.source.is_empty() { ", " (story.source) } }
            @if !story.app.command.is_empty() {
                pre tabindex="0" {
                    @for (index, word) in story.app.command.iter().enumerate() {
                        @if index > 0 { " " }
                        (word)
                    }
                }
            }
            details {
                summary { "Settings" }
                div.wide role="region" aria-label="Settings" tabindex="0" {
                    table.settings {
                        tbody {
                            @for (key, value) in story.settings() {
                                tr { th scope="row" { (key) } td { (value) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
