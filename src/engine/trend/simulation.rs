//! Days in the life of healthy apps and of leaking ones, and what the trend says of them.

use std::f64::consts::TAU;
use std::time::Duration;

use super::{Bounds, Trend, Trending, UNIT, Verdict};
use crate::engine::time::Moment;

const LIMIT: u64 = 1 << 30;
const DAY: f64 = 24.0;

/// Between two looks. memini measures once a second at least; fewer looks make the minima worse.
const SECONDS: f64 = 6.0;

/// Numbers by chance, the same for the same seed (SplitMix64).
#[derive(Clone, Copy)]
pub struct Chance(pub u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Between these, evenly.
    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Between these, evenly by factors.
    fn about(&mut self, low: f64, high: f64) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }

    /// With a mean of 0 and a deviation of 1, nearly normal.
    fn normal(&mut self) -> f64 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xFFFF).sum();
        (sum as f64 / 65536.0 - 2.0) * 3f64.sqrt()
    }
}

/// An app's memory over time: a share of the limit after so many hours, without noise.
type Life = Box<dyn FnMut(f64) -> f64>;

/// Something added to it.
fn plus(mut life: Life, mut more: impl FnMut(f64) -> f64 + 'static) -> Life {
    Box::new(move |hours| life(hours) + more(hours))
}

fn flat(chance: &mut Chance) -> Life {
    let level = chance.between(0.1, 0.4);
    Box::new(move |_| level)
}

/// Up by `height` in `period` hours, and back.
fn saw(period: f64, height: f64, phase: f64) -> impl Fn(f64) -> f64 {
    move |hours| height * (hours / period + phase).fract()
}

/// A collector of many garbage: a tooth in seconds to minutes.
fn collector(chance: &mut Chance) -> impl Fn(f64) -> f64 + use<> {
    saw(chance.about(3.0, 300.0) / 3600.0, chance.between(0.02, 0.2), chance.between(0.0, 1.0))
}

/// A collector that waits: a tooth in ten minutes to three hours.
fn lazy_collector(chance: &mut Chance) -> impl Fn(f64) -> f64 + use<> {
    saw(chance.about(0.16, 3.0), chance.between(0.05, 0.3), chance.between(0.0, 1.0))
}

/// Slower and slower up to `height`, from the start on.
fn warm_up(chance: &mut Chance) -> impl Fn(f64) -> f64 + use<> {
    let (height, span) = (chance.between(0.05, 0.4), chance.about(0.05, 6.0));
    move |hours| height * (1.0 - (-hours / span).exp())
}

fn wave(period: f64, height: f64, phase: f64) -> impl Fn(f64) -> f64 {
    move |hours| height / 2.0 * (1.0 + (TAU * (hours / period + phase)).sin())
}

/// The load of days: no two are as high, and mornings are steeper than evenings. `weekend` is the part of it that is left then.
fn loaded(chance: &mut Chance, height: f64, weekend: f64) -> impl Fn(f64) -> f64 + use<> {
    let (begin, seed, skew) = (chance.between(0.0, 7.0), chance.next(), chance.between(0.0, 0.15));
    move |hours| {
        let days = hours / DAY + begin;
        let of_day = Chance(seed ^ (days as u64).wrapping_mul(0x2545_F491)).between(0.85, 1.15);
        let share = if days.floor() % 7.0 >= 5.0 { weekend } else { 1.0 };
        // Days differ in height; they meet in the night.
        let turn = days.fract() - skew * (TAU * days.fract()).sin() / TAU;
        height * of_day * share * (1.0 - (TAU * turn).cos()) / 2.0
    }
}

/// Workers that leak and are replaced in turns, after so many requests.
fn recycled(chance: &mut Chance) -> impl Fn(f64) -> f64 + use<> {
    let count = chance.between(2.0, 9.0).floor();
    let (period, height) = (chance.about(0.5, 10.0), chance.between(0.05, 0.3) / count);
    let workers: Vec<_> =
        (0..count as usize).map(|_| saw(period * chance.between(0.9, 1.1), height, chance.between(0.0, 1.0))).collect();
    move |hours| workers.iter().map(|worker| worker(hours)).sum()
}

/// Batches: two or three a day at any time, up for some minutes to two hours, and then gone.
fn batches(chance: &mut Chance) -> impl Fn(f64) -> f64 + use<> {
    let all: Vec<(f64, f64, f64)> = (0..40)
        .map(|_| (chance.between(0.0, 15.0 * DAY), chance.about(0.1, 2.0), chance.between(0.05, 0.35)))
        .collect();
    move |hours| {
        let share = |(start, span, height): &(f64, f64, f64)| {
            let done = (hours - start) / span;
            if (0.0..1.0).contains(&done) { done * height } else { 0.0 }
        };
        all.iter().map(share).fold(0.0, f64::max)
    }
}

/// Up and down without a plan: it comes back to where it began within so many hours.
fn wander(chance: &mut Chance, hours: f64, deviation: f64) -> impl FnMut(f64) -> f64 + use<> {
    let (mut chance, mut value, mut last) = (Chance(chance.next()), 0.0, 0.0);
    move |now| {
        let kept = (-(now - last) / hours).exp();
        (value, last) = (value * kept + deviation * (1.0 - kept * kept).sqrt() * chance.normal(), now);
        value
    }
}

/// So many steps up at any time within four days.
fn steps(chance: &mut Chance, count: usize) -> Life {
    let steps: Vec<(f64, f64)> = (0..count).map(|_| (chance.between(0.0, 96.0), chance.between(0.02, 0.06))).collect();
    plus(plus(flat(chance), collector(chance)), move |hours| {
        steps.iter().filter(|(at, _)| *at <= hours).map(|(_, height)| height).sum()
    })
}

/// From `start` on, so much of the limit an hour.
fn leak(start: f64, rate: f64) -> impl Fn(f64) -> f64 {
    move |hours| rate * (hours - start).max(0.0)
}

/// What the trend said, and when: hours.
#[derive(Default)]
struct Said {
    changes: Vec<(f64, Trending)>,
}

impl Said {
    /// When this or more was first said, in hours after `start`.
    fn first_after(&self, start: f64, verdict: Verdict) -> Option<f64> {
        let later = self.changes.iter().find(|(hours, said)| *hours >= start && said.verdict >= verdict);
        later.map(|(hours, _)| hours - start)
    }
}

/// Lives through a life, looked at every so many seconds. `noise` is the deviation of each look, and of what wanders within ten
/// minutes.
fn live(mut life: Life, hours: f64, seconds: f64, noise: f64, chance: &mut Chance) -> Said {
    let (mut trend, mut said) = (Trend::new(UNIT), Said::default());
    let mut wanders = wander(chance, 1.0 / 6.0, noise / 2.0);
    let steps = (hours * 3600.0 / seconds) as u64;
    for step in 0..steps {
        // Never quite in step with a collector.
        let at = (step as f64 + chance.between(0.0, 0.9)) * seconds / 3600.0;
        let share = (life(at) + wanders(at) + noise * chance.normal()).clamp(0.0, 1.0);
        let gauged = (share * LIMIT as f64) as u64;
        let bounds = Bounds { limit: LIMIT, room: LIMIT - gauged };
        let now = Moment::default().after(Duration::from_secs_f64(at * 3600.0));
        said.changes.extend(trend.add(now, gauged, Some(bounds)).map(|change| (at, change)));
    }
    said
}

/// A kind of app.
struct Kind {
    name: &'static str,
    hours: f64,
    make: fn(&mut Chance) -> Life,
    /// When the leak begins, and by when after that it is to be called one; `None`: it is healthy.
    leaks: Option<(f64, f64)>,
    /// The least share, in percent, that is to be called a leak, or the largest for a healthy app. `None`: only told.
    target: Option<f64>,
}

const fn healthy(name: &'static str, hours: f64, make: fn(&mut Chance) -> Life) -> Kind {
    Kind { name, hours, make, leaks: None, target: Some(0.0) }
}

const fn leaking(
    name: &'static str,
    (start, within): (f64, f64),
    target: Option<f64>,
    make: fn(&mut Chance) -> Life,
) -> Kind {
    Kind { name, hours: start + within, make, leaks: Some((start, within)), target }
}

/// How long each kind has lived before it leaks. Long enough for a day to be known beside the longest window that matters.
const BEFORE: f64 = 30.0;

const KINDS: &[Kind] = &[
    healthy("flat", 96.0, flat),
    healthy("saw tooth, 3 s to 5 min", 96.0, |chance| plus(flat(chance), collector(chance))),
    healthy("saw tooth, 10 min to 3 h", 96.0, |chance| plus(flat(chance), lazy_collector(chance))),
    healthy("warm-up of minutes to a day, and saw tooth", 96.0, |chance| {
        plus(plus(flat(chance), warm_up(chance)), collector(chance))
    }),
    healthy("one step of 5 to 40%", 96.0, |chance| {
        let (at, height) = (chance.between(0.0, 90.0), chance.between(0.05, 0.4));
        plus(plus(flat(chance), collector(chance)), move |hours| if hours < at { 0.0 } else { height })
    }),
    healthy("three steps in four days", 96.0, |chance| steps(chance, 3)),
    Kind { target: None, ..healthy("eight steps in four days", 96.0, |chance| steps(chance, 8)) },
    healthy("slow wave, 1 to 20 h", 96.0, |chance| {
        let wave = wave(chance.about(1.0, 20.0), chance.between(0.05, 0.35), chance.between(0.0, 1.0));
        plus(plus(flat(chance), wave), collector(chance))
    }),
    healthy("daily load", 120.0, |chance| {
        let height = chance.between(0.05, 0.35);
        plus(plus(flat(chance), loaded(chance, height, 1.0)), collector(chance))
    }),
    healthy("weekly load", 21.0 * DAY, |chance| {
        let height = chance.between(0.05, 0.35);
        plus(flat(chance), loaded(chance, height, 0.35))
    }),
    healthy("workers replaced after 0.5 to 10 h", 96.0, |chance| plus(flat(chance), recycled(chance))),
    healthy("batches of 6 min to 2 h", 96.0, |chance| plus(flat(chance), batches(chance))),
    healthy("wandering by 2%, back within 2 h", 96.0, |chance| {
        let wanders = wander(chance, 2.0, 0.02);
        plus(flat(chance), wanders)
    }),
    Kind {
        target: None,
        ..healthy("a cache that fills evenly for 1 to 20 h", 96.0, |chance| {
            let (height, span) = (chance.between(0.1, 0.4), chance.about(1.0, 20.0));
            plus(flat(chance), move |hours: f64| height * (hours / span).min(1.0))
        })
    },
    Kind {
        target: None,
        ..healthy("the same for 1 to 4 days", 144.0, |chance| {
            let (height, span) = (chance.between(0.1, 0.4), chance.about(24.0, 96.0));
            plus(flat(chance), move |hours: f64| height * (hours / span).min(1.0))
        })
    },
    leaking("leak of 1% an hour, 6 h", (BEFORE, 6.0), Some(90.0), |chance| {
        plus(plus(flat(chance), collector(chance)), leak(BEFORE, 0.01))
    }),
    leaking("the same beside a lazy collector, 30 h", (BEFORE, 30.0), None, |chance| {
        plus(plus(flat(chance), lazy_collector(chance)), leak(BEFORE, 0.01))
    }),
    leaking("the same in lumps, one in 20 min to 1 h", (BEFORE, 6.0), None, |chance| {
        let lump = chance.about(1.0 / 3.0, 1.0);
        plus(plus(flat(chance), collector(chance)), move |hours: f64| {
            0.01 * lump * ((hours - BEFORE).max(0.0) / lump).floor()
        })
    }),
    leaking("leak of 1% an hour beside a daily load of 5 to 15%, 48 h", (BEFORE, 48.0), None, |chance| {
        let height = chance.between(0.05, 0.15);
        plus(plus(flat(chance), loaded(chance, height, 1.0)), leak(BEFORE, 0.01))
    }),
    leaking("leak of 0.3% an hour beside the same, 7 days", (BEFORE, 168.0), None, |chance| {
        let height = chance.between(0.05, 0.15);
        plus(plus(flat(chance), loaded(chance, height, 1.0)), leak(BEFORE, 0.003))
    }),
    leaking("leak of 5% an hour, 5 h", (BEFORE, 5.0), None, |chance| {
        plus(plus(flat(chance), collector(chance)), leak(BEFORE, 0.05))
    }),
    leaking("leak of 0.1% an hour, 48 h", (BEFORE, 48.0), None, |chance| {
        plus(plus(flat(chance), collector(chance)), leak(BEFORE, 0.001))
    }),
    leaking("leak of 1% an hour from the start on, 6 h", (0.0, 6.0), None, |chance| {
        plus(plus(flat(chance), collector(chance)), leak(0.0, 0.01))
    }),
    leaking("the same, 27 h", (0.0, 27.0), None, |chance| plus(plus(flat(chance), collector(chance)), leak(0.0, 0.01))),
    leaking("the same after a warm-up, 36 h", (0.0, 36.0), None, |chance| {
        plus(plus(flat(chance), warm_up(chance)), leak(0.0, 0.01))
    }),
    leaking(
        "leak of 1% an hour, and a worker's restart takes back 3% after 3 h; 12 h",
        (BEFORE, 12.0),
        None,
        |chance| {
            plus(plus(flat(chance), collector(chance)), |hours| {
                leak(BEFORE, 0.01)(hours) - if hours >= BEFORE + 3.0 { 0.03 } else { 0.0 }
            })
        },
    ),
];

/// Shares in percent: called a leak, called growing or worse; and the most verdicts that a life had.
struct Rates {
    leak: f64,
    growing: f64,
    /// The median of when it was called a leak, hours.
    after: Option<f64>,
    most_changes: usize,
}

fn rates(kind: &Kind, noise: f64, seeds: u64, seconds: f64) -> Rates {
    let (start, within) = kind.leaks.unwrap_or((0.0, kind.hours));
    let (mut leaks, mut growing, mut most) = (Vec::new(), 0usize, 0);
    for seed in 0..seeds {
        let mut chance = Chance(seed.wrapping_mul(0x1234_5678_9ABC_DEF1) ^ noise.to_bits());
        let life = (kind.make)(&mut chance);
        let said = live(life, kind.hours, seconds, noise, &mut chance);
        let first = |verdict| said.first_after(start, verdict).filter(|after| *after <= within);
        leaks.extend(first(Verdict::Leak));
        growing += usize::from(first(Verdict::Growing).is_some());
        most = most.max(said.changes.len());
    }
    leaks.sort_unstable_by(f64::total_cmp);
    let percent = |count: usize| count as f64 * 100.0 / seeds as f64;
    Rates {
        leak: percent(leaks.len()),
        growing: percent(growing),
        after: leaks.get(leaks.len() / 2).copied(),
        most_changes: most,
    }
}

const NOISES: [f64; 4] = [0.0005, 0.002, 0.005, 0.01];

/// Up to here targets hold.
const USUAL: f64 = 0.005;

impl Kind {
    /// Whether these lives went as they should.
    fn is_met(&self, leak: f64) -> bool {
        self.target.is_none_or(|target| if self.leaks.is_some() { leak >= target } else { leak <= target })
    }
}

#[test]
fn a_few_lives_of_each_kind_go_as_they_should() {
    for kind in KINDS.iter().filter(|kind| kind.target.is_some()) {
        let rates = rates(kind, 0.002, 8, SECONDS);
        assert!(kind.is_met(rates.leak), "{}: {}% are called a leak", kind.name, rates.leak);
        assert!(rates.most_changes <= 16, "{}: flaps {} times", kind.name, rates.most_changes);
    }
}

/// Prints the table of bench/RESULTS.md. `VERDICT_SEEDS` is how many lives each kind has.
#[test]
#[ignore = "takes minutes; bench/verdict runs it"]
fn table() {
    let seeds: u64 = std::env::var("VERDICT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(100);
    let only = std::env::var("VERDICT_ONLY").unwrap_or_default();
    println!(
        "| {seeds} lives in each cell | {} | found after | most verdicts | target |",
        NOISES.map(percent).join(" | ")
    );
    println!("|---|{}---:|---:|---|", "---:|".repeat(NOISES.len()));
    for kind in KINDS.iter().filter(|kind| kind.name.contains(&only)) {
        let rates = NOISES.map(|noise| rates(kind, noise, seeds, SECONDS));
        let cells = rates.each_ref().map(|rates| format!("{:.1} / {:.0}", rates.leak, rates.growing)).join(" | ");
        let after = rates.get(1).and_then(|rates| rates.after).map_or(String::new(), |hours| format!("{hours:.1} h"));
        let most = rates.iter().map(|rates| rates.most_changes).max().unwrap_or(0);
        let usual = || rates.iter().zip(NOISES).filter(|(_, noise)| *noise <= USUAL);
        let is_met = usual().all(|(rates, _)| kind.is_met(rates.leak));
        let target = kind.target.map_or(String::new(), |target| {
            let sign = if kind.leaks.is_some() { "≥ " } else { "" };
            format!("{sign}{target}%: {}", if is_met { "met" } else { "missed" })
        });
        println!("| {} | {cells} | {after} | {most} | {target} |", kind.name);
    }
}

/// What one judgement costs: prints microseconds.
#[test]
#[ignore = "measures; bench/verdict runs it"]
fn cost() {
    let mut chance = Chance(1);
    let noise: Vec<u64> = (0..1 << 16).map(|_| chance.next() >> 42).collect();
    for (name, slope) in [("flat", 0u64), ("leak", 3000)] {
        let mut trend = Trend::new(UNIT);
        let began = std::time::Instant::now();
        let minutes = 40u64 * 24 * 60;
        for minute in 0..minutes {
            let gauged = noise[minute as usize % noise.len()] + minute * slope;
            let bounds = Bounds { limit: LIMIT, room: LIMIT / 2 };
            trend.add(Moment::default().after(Duration::from_secs(60 * minute)), gauged, Some(bounds));
        }
        let judged = began.elapsed().as_secs_f64() * 1e6 / minutes as f64;
        let began = std::time::Instant::now();
        let last = Moment::default().after(Duration::from_secs(60 * (minutes - 1)));
        for look in 0..10_000_000u64 {
            std::hint::black_box(trend.add(last, std::hint::black_box(look), None));
        }
        let looked = began.elapsed().as_secs_f64() * 1e9 / 1e7;
        println!("cost {name}: {judged:.2} µs a minute, {looked:.1} ns a look, {} bytes", size_of::<Trend>());
    }
}

fn percent(share: f64) -> String {
    format!("noise {}%", share * 100.0)
}
