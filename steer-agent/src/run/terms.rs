//! What a running daemon goes by, as far as it may change under way. It is one value, exchanged as a
//! whole between two ticks.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::irqbalance::Consent;
use crate::policy::{MaintenanceWindow, Policy, WallTime};

/// What a daemon goes by.
#[derive(Clone, Debug)]
pub struct Conduct {
    /// Time between two looks.
    pub period: Duration,
    /// Put everything back at the end.
    pub restore_on_exit: bool,
    /// NICs that have terms of their own, by name.
    pub by_name: BTreeMap<String, Terms>,
    /// All other NICs.
    pub others: Terms,
}

/// What one NIC is steered by.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Thresholds and limits of the planner.
    pub policy: Policy,
    /// What may be done about irqbalance.
    pub irqbalance: Consent,
    /// When it may be written.
    pub maintenance_window: MaintenanceWindow,
}

impl Conduct {
    /// The terms of the NIC of this name.
    #[must_use]
    pub fn of(&self, nic: &str) -> &Terms {
        self.by_name.get(nic).unwrap_or(&self.others)
    }

    /// The same terms for all NICs.
    #[must_use]
    pub fn alike(period: Duration, restore_on_exit: bool, terms: Terms) -> Self {
        Self { period, restore_on_exit, by_name: BTreeMap::new(), others: terms }
    }
}

impl Terms {
    /// These thresholds, at any time, and irqbalance as `irqbalance` says.
    #[must_use]
    pub fn always(policy: Policy, irqbalance: Consent) -> Self {
        Self { policy, irqbalance, maintenance_window: MaintenanceWindow::default() }
    }
}

/// What the clock on the wall of this host shows, in its time zone (`/etc/localtime`, `TZ`).
#[must_use]
pub fn wall_time() -> WallTime {
    let now = jiff::Zoned::now();
    let part = |number: i8| u16::try_from(number).unwrap_or(0);
    let day = part(now.weekday().to_monday_zero_offset());
    // What a clock shows is a time.
    WallTime::new(day, part(now.hour()), part(now.minute())).unwrap_or(WallTime::MONDAY)
}

/// Seconds since 1970 (UTC).
#[must_use]
pub fn unix_time_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
