//! What this module reads from others, as functions of bytes. They come back whatever the bytes are,
//! and what is understood must mean the same when it is written and read again.

use super::{diag, ethnl, ethtool, irqbalance, netlink, peer};

/// Answers of the ethtool ioctl.
pub(crate) fn ethtool(bytes: &[u8]) {
    ethtool::any::settings(bytes);
}

/// Answers of the ethtool ioctl about exact-match rules.
pub(crate) fn rules(bytes: &[u8]) {
    ethtool::any::rules(bytes);
}

/// A datagram of netlink, and what is read of its messages. The bytes are tried without an envelope
/// too, so that what is inside is reached sooner.
pub(crate) fn netlink(bytes: &[u8]) {
    let payload = |bytes: &[u8]| {
        ethnl::any_bytes(bytes);
        diag::any_bytes(bytes);
    };
    netlink::any_bytes(bytes, payload);
    payload(bytes);
}

/// An answer of irqbalance.
pub(crate) fn irqbalance(bytes: &[u8]) {
    irqbalance::any_bytes(bytes);
}

/// A group database.
pub(crate) fn groups(text: &str) {
    let _ = (peer::number_in(text, "steer"), peer::number_in(text, ""));
}
