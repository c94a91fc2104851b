//! What must hold of `[limits]`.

use crate::model::{Duration, Limits};

use super::super::form::{At, LimitsForm};
use super::super::topology::TopologyError;
use super::fields::Source;

const DAY_MS: i64 = 86_400_000;

/// The limits of a file: defaults where it is silent. Upper bounds are what a node can hold in memory, on
/// disk, or in patience.
pub(super) fn limits(source: &Source<'_>, form: &LimitsForm) -> Result<Limits, TopologyError> {
    let LimitsForm {
        key_bytes_max,
        value_bytes_max,
        siblings_max,
        parts_max,
        operation_window_ms,
        requests_max,
        batch_bytes_max,
        window_bytes_max,
        recent_bytes_max,
        log_bytes_max,
        reconcile_bytes_per_second,
        scrub_bytes_per_second,
        scrub_every_ms,
        disk_low_bytes,
        disk_full_bytes,
        max_offset_ms,
        heartbeat_every_ms,
        silence_max_ms,
        reconcile_every_ms,
        upkeep_every_ms,
    } = form;
    let mut limits = Limits::default();
    let to = &mut limits;
    source.set(
        "key_bytes_max",
        key_bytes_max,
        8 << 10,
        &mut to.key_bytes_max,
    )?;
    source.set(
        "value_bytes_max",
        value_bytes_max,
        16 << 20,
        &mut to.value_bytes_max,
    )?;
    source.set("siblings_max", siblings_max, 4096, &mut to.siblings_max)?;
    source.set("parts_max", parts_max, 16_384, &mut to.parts_max)?;
    source.set_ms(
        "operation_window_ms",
        operation_window_ms,
        30 * DAY_MS,
        &mut to.operation_window,
    )?;
    source.set("requests_max", requests_max, 1 << 20, &mut to.requests_max)?;
    source.set(
        "batch_bytes_max",
        batch_bytes_max,
        16 << 20,
        &mut to.batch_bytes_max,
    )?;
    source.set(
        "window_bytes_max",
        window_bytes_max,
        1 << 30,
        &mut to.window_bytes_max,
    )?;
    source.set(
        "recent_bytes_max",
        recent_bytes_max,
        16 << 30,
        &mut to.recent_bytes_max,
    )?;
    source.set(
        "log_bytes_max",
        log_bytes_max,
        1 << 40,
        &mut to.log_bytes_max,
    )?;
    let rate = &mut to.reconcile_bytes_per_second;
    source.set(
        "reconcile_bytes_per_second",
        reconcile_bytes_per_second,
        1 << 40,
        rate,
    )?;
    let rate = &mut to.scrub_bytes_per_second;
    source.set(
        "scrub_bytes_per_second",
        scrub_bytes_per_second,
        1 << 40,
        rate,
    )?;
    source.set_ms(
        "scrub_every_ms",
        scrub_every_ms,
        366 * DAY_MS,
        &mut to.scrub_every,
    )?;
    let low = &mut to.disk_low_bytes;
    source.set("disk_low_bytes", disk_low_bytes, 1 << 50, low)?;
    let full = &mut to.disk_full_bytes;
    source.set("disk_full_bytes", disk_full_bytes, 1 << 50, full)?;
    source.set_ms("max_offset_ms", max_offset_ms, 60_000, &mut to.max_offset)?;
    source.set_ms(
        "heartbeat_every_ms",
        heartbeat_every_ms,
        60_000,
        &mut to.heartbeat_every,
    )?;
    source.set_ms(
        "silence_max_ms",
        silence_max_ms,
        600_000,
        &mut to.silence_max,
    )?;
    source.set_ms(
        "reconcile_every_ms",
        reconcile_every_ms,
        DAY_MS,
        &mut to.reconcile_every,
    )?;
    source.set_ms(
        "upkeep_every_ms",
        upkeep_every_ms,
        DAY_MS,
        &mut to.upkeep_every,
    )?;
    silence_outlasts_heartbeats(source, form, &limits)?;
    Ok(limits)
}

/// A single lost heartbeat must not make a peer look down.
fn silence_outlasts_heartbeats(
    source: &Source<'_>,
    form: &LimitsForm,
    limits: &Limits,
) -> Result<(), TopologyError> {
    let blamed = form
        .silence_max_ms
        .as_ref()
        .or(form.heartbeat_every_ms.as_ref());
    match blamed {
        Some(at) if limits.silence_max < limits.heartbeat_every.saturating_mul(2) => {
            let message = format!(
                "a peer is down after {} ms of silence, but heard only every {} ms: make `silence_max_ms` at \
                 least twice `heartbeat_every_ms`",
                limits.silence_max.as_millis(),
                limits.heartbeat_every.as_millis(),
            );
            Err(source.refuse(at.span().start, message))
        }
        Some(_) | None => Ok(()),
    }
}

impl Source<'_> {
    /// Takes a number from 1 to `max` over, if the file names one.
    fn set<T: TryFrom<i64>>(
        &self,
        what: &str,
        at: &Option<At<i64>>,
        max: i64,
        to: &mut T,
    ) -> Result<(), TopologyError> {
        if let Some(at) = at {
            *to = self.whole(what, at, 1, max)?;
        }
        Ok(())
    }

    /// Takes whole milliseconds from 1 to `ms_max` over, if the file names them.
    fn set_ms(
        &self,
        what: &str,
        at: &Option<At<i64>>,
        ms_max: i64,
        to: &mut Duration,
    ) -> Result<(), TopologyError> {
        if let Some(at) = at {
            *to = Duration::from_millis(self.whole(what, at, 1, ms_max)?);
        }
        Ok(())
    }
}
