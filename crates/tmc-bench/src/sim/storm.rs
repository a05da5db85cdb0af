//! A time in which much goes wrong while people work.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::SignedDuration;

use super::chance::Chance;
use super::process::WhoseClock;
use super::run::World;
use super::weather::{Conditions, Cut};

/// Furthest that an agent's or a member's clock is off during a storm, in milliseconds.
const MOST_SKEW: u64 = 60_000;

/// Lets `events` things happen, one after the other.
pub(crate) async fn rage(world: &mut World, events: u32) -> Result<()> {
    let chance = world.ground.chance.fork("storm");
    world.users.begin(world.hub()?).await;
    for _ in 0..events {
        tokio::time::sleep(chance.between(Duration::from_millis(100), Duration::from_secs(6)))
            .await;
        match chance.below(100) {
            0..=59 => world.users.act(world.hub()?, &world.fleet).await,
            60..=70 => turn(world, &chance),
            71..=79 => cut(world, &chance),
            80..=83 => slow(world, &chance),
            84..=87 => skew(world, &chance),
            88..=90 => restart(world, &chance).await?,
            91 => {
                // Long enough for whatever waits for a grace to run out.
                let calm = chance.between(Duration::from_secs(30), Duration::from_secs(400));
                world.note(|| format!("{calm:?} pass"));
                tokio::time::sleep(calm).await;
            }
            _ => world.look().await?,
        }
    }
    Ok(())
}

/// Everything works again.
///
/// # Errors
/// When a Secret cannot be mended.
pub(crate) async fn end(world: &World) -> Result<()> {
    world.note(|| "the storm is over".to_owned());
    world.ground.weather.clear();
    world.ground.skews.lock().clear();
    let mended = world.users.mend(world.hub()?, &world.fleet).await;
    mended.context("a Secret cannot be mended")
}

fn turn(world: &World, chance: &Chance) {
    let rate = |most| u32::try_from(chance.below(most)).unwrap_or(0);
    let conditions = match chance.below(4) {
        0 => Conditions::default(),
        1 => Conditions {
            lost_request: rate(150),
            lost_answer: rate(150),
            refused: rate(100),
            duplicated: rate(200),
            repeated: rate(300),
            ..Conditions::default()
        },
        2 => Conditions {
            delayed: rate(800),
            delay: chance.between(Duration::from_millis(10), Duration::from_secs(4)),
            stalled: rate(300),
            overtaken: rate(300),
            repeated: rate(300),
            ..Conditions::default()
        },
        _ => Conditions {
            lost_request: rate(80),
            lost_answer: rate(80),
            refused: rate(50),
            duplicated: rate(100),
            overtaken: rate(100),
            delayed: rate(300),
            delay: chance.between(Duration::from_millis(10), Duration::from_secs(1)),
            stalled: rate(100),
            watch_life: Some(chance.between(Duration::from_secs(2), Duration::from_secs(40))),
            expired: rate(700),
            repeated: rate(200),
            replayed: rate(1000),
        },
    };
    world.note(|| format!("weather: {conditions:?}"));
    world.ground.weather.set(conditions);
}

fn wire(chance: &Chance, name: &str) -> String {
    let end = if chance.happens(500) {
        "agent"
    } else {
        "member"
    };
    format!("{end}/{name}")
}

/// Cuts wires, of one member or of all, or joins all again.
fn cut(world: &World, chance: &Chance) {
    let weather = &world.ground.weather;
    let names = world.fleet.names();
    let how = if chance.happens(600) {
        Cut::Silent
    } else {
        Cut::Reset
    };
    match chance.below(10) {
        0 => {
            world.note(|| format!("all agents are cut off: {how:?}"));
            for name in names {
                weather.cut(&format!("agent/{name}"), Some(how));
            }
        }
        1..=5 => {
            let Some(name) = chance.pick(&names) else {
                return;
            };
            let wire = wire(chance, name);
            world.note(|| format!("{wire} is cut: {how:?}"));
            weather.cut(&wire, Some(how));
        }
        _ => {
            world.note(|| "all wires are joined".to_owned());
            for name in names {
                weather.cut(&format!("agent/{name}"), None);
                weather.cut(&format!("member/{name}"), None);
            }
        }
    }
}

fn slow(world: &World, chance: &Chance) {
    let names = world.fleet.names();
    let Some(name) = chance.pick(&names) else {
        return;
    };
    let wire = format!("member/{name}");
    let delay = chance
        .happens(600)
        .then(|| chance.between(Duration::from_millis(100), Duration::from_secs(10)));
    world.note(|| format!("{wire} takes up to {delay:?}"));
    world.ground.weather.slow(&wire, delay);
}

fn skew(world: &World, chance: &Chance) {
    let names = world.fleet.names();
    let Some(name) = chance.pick(&names) else {
        return;
    };
    let off = i64::try_from(chance.below(2 * MOST_SKEW)).unwrap_or(0) - MOST_SKEW as i64;
    let off = SignedDuration::from_millis(off);
    let whose = if chance.happens(500) {
        WhoseClock::Agent
    } else {
        WhoseClock::Member
    };
    world.note(|| format!("{name}: the clock of the {whose:?} is off by {off:#}"));
    let of = (whose, (*name).to_owned());
    world.ground.skews.lock().insert(of, off);
}

async fn restart(world: &mut World, chance: &Chance) -> Result<()> {
    let pause = chance.between(Duration::ZERO, Duration::from_secs(45));
    let compacted = chance.happens(500);
    world.restart(pause, compacted).await
}
