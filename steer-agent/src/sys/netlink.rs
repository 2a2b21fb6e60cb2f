//! One question and its answers over a netlink socket (netlink(7)).
//!
//! Messages are built and read by `netlink-bindings`, which is generated from the kernel's own
//! specifications. The exchange is here, because `netlink-socket2` reads into 8 KiB and panics on
//! an answer that is longer, which the table of an ice with 2048 entries is. Guaranteed: no answer
//! makes this panic, none is cut off unnoticed, and no exchange hangs. Not done: notifications.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _};
use netlink_bindings::builtin::NlmsgerrAttrs;
use netlink_bindings::nlctrl;
use netlink_bindings::traits::NetlinkRequest;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send,
    socket_with,
};

use super::raw;

/// Room for two attributes of the greatest length (65535): a table and a key.
const BUFFER: usize = 128 * 1024;
/// The kernel answers while the request is being sent, so this is never reached; it turns an
/// answer that was lost (`ENOBUFS`) into an error instead of a hang.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a dump is repeated that changed while it was made (`NLM_F_DUMP_INTR`).
const ATTEMPTS: u32 = 3;
/// `sizeof(struct nlmsghdr)`.
const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
/// `GENL_ID_CTRL`: the family that tells about families.
const GENL_ID_CTRL: u16 = 16;

/// A question that was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Why.
    pub(super) errno: Errno,
    /// The kernel's own words, where it has some.
    pub(super) words: Option<String>,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self { errno, words: None }
    }
}

/// A generic netlink family of the running kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Family {
    /// The message type that its requests carry.
    pub(super) id: u16,
    /// The operations that it has (`CTRL_ATTR_OPS`).
    pub(super) operations: BTreeSet<u32>,
}

impl Family {
    fn told(reply: &nlctrl::IterableCtrlAttrs<'_>) -> Option<Self> {
        let operations = reply.get_ops().into_iter().flatten();
        let operations = operations.filter_map(|op| op.get_id().ok()).collect();
        Some(Self { id: reply.get_family_id().ok()?, operations })
    }
}

/// A socket in the present network namespace.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// A socket for generic netlink.
    pub(super) fn generic() -> Result<Self, Refusal> {
        Self::open(Some(netlink::GENERIC))
    }

    /// A socket for rtnetlink(7).
    pub(super) fn route() -> Result<Self, Refusal> {
        Self::open(None)
    }

    /// A socket for `sock_diag(7)`.
    pub(super) fn sock_diag() -> Result<Self, Refusal> {
        Self::open(Some(netlink::SOCK_DIAG))
    }

    fn open(protocol: Option<Protocol>) -> Result<Self, Refusal> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        // Without it errors are merely terser.
        let _ = raw::enable_extended_ack(socket.as_fd());
        Ok(Self { socket, sequence: 0 })
    }

    /// Looks up a family by name; `None` where the kernel has none.
    pub(super) fn family(&mut self, name: &str) -> Result<Option<Family>, Refusal> {
        let mut request = nlctrl::Request::new().op_getfamily_do();
        request.encode().push_family_name_bytes(name.as_bytes());
        let mut family = None;
        let asked = self.ask(&request, GENL_ID_CTRL, |reply| family = Family::told(&reply));
        match asked {
            Ok(()) => Ok(family),
            Err(refusal) if refusal.errno == Errno::NOENT => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Sends `request` as a message of type `kind` and hands each answer to `each`, until the
    /// kernel says that it is done. A dump that was interrupted by a change is handed over again
    /// from its start, so `each` must bear to see an object twice.
    pub(super) fn ask<R: NetlinkRequest>(
        &mut self,
        request: &R,
        kind: u16,
        mut each: impl FnMut(R::ReplyType<'_>),
    ) -> Result<(), Refusal> {
        for _ in 0..ATTEMPTS {
            self.send(request.payload(), kind, request.flags())?;
            let consistent = self.receive(|payload| each(R::decode_reply(payload)))?;
            if consistent {
                return Ok(());
            }
        }
        Err(Errno::INTR.into())
    }

    fn send(&mut self, payload: &[u8], kind: u16, flags: u16) -> Result<(), Refusal> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + payload.len()).map_err(|_| Errno::MSGSIZE)?;
        let mut message = Vec::with_capacity(HEADER + payload.len());
        message.put_u32_ne(length);
        message.put_u16_ne(kind);
        message.put_u16_ne(flags | NLM_F_REQUEST | NLM_F_ACK);
        message.put_u32_ne(self.sequence);
        message.put_u32_ne(0); // port: the kernel fills it in
        message.put_slice(payload);
        let sent = rustix::io::retry_on_intr(|| send(&self.socket, &message, SendFlags::empty()))?;
        if sent == message.len() { Ok(()) } else { Err(Errno::MSGSIZE.into()) }
    }

    /// Whether the answers belong together (no `NLM_F_DUMP_INTR`).
    fn receive(&mut self, mut each: impl FnMut(&[u8])) -> Result<bool, Refusal> {
        let mut buffer = vec![0; BUFFER];
        let mut consistent = true;
        loop {
            // TRUNC makes the kernel tell the true length of an answer that did not fit.
            let length = rustix::io::retry_on_intr(|| {
                let (_, length) = recv(&self.socket, buffer.as_mut_slice(), RecvFlags::TRUNC)?;
                Ok(length)
            })?;
            let datagram = buffer.get(..length).ok_or(Errno::MSGSIZE)?;
            for message in messages(datagram) {
                if message.sequence != self.sequence {
                    continue;
                }
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_ERROR | NLMSG_DONE => return message.verdict().map(|()| consistent),
                    _ => each(message.payload),
                }
            }
        }
    }
}

/// One message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl Message<'_> {
    /// What an error or the end of a dump says (`struct nlmsgerr`): 0 is success.
    fn verdict(&self) -> Result<(), Refusal> {
        let mut payload = self.payload;
        let code = payload.try_get_i32_ne().map_err(|_| Errno::PROTO)?;
        let errno = match code {
            0 => return Ok(()),
            -4095..0 => Errno::from_raw_os_error(-code), // MAX_ERRNO
            _ => Errno::PROTO,
        };
        Err(Refusal { errno, words: self.words() })
    }

    /// The extended acknowledgement, which follows the code and, in an error, the request as far
    /// as it is repeated.
    fn words(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let mut rest = self.payload.get(4..)?;
        if self.kind == NLMSG_ERROR {
            let mut header = rest;
            let length = usize::try_from(header.try_get_u32_ne().ok()?).ok()?;
            let repeated = if self.flags & NLM_F_CAPPED != 0 { HEADER } else { align(length)? };
            rest = rest.get(repeated..)?;
        }
        let words = NlmsgerrAttrs::new(rest).get_msg().ok()?;
        Some(words.to_string_lossy().into_owned())
    }
}

/// `NLMSG_ALIGN`.
fn align(length: usize) -> Option<usize> {
    length.checked_next_multiple_of(4)
}

/// The messages of a datagram; it ends at the first that does not fit.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let whole = datagram;
        let mut header = whole.get(..HEADER)?;
        let length = usize::try_from(header.try_get_u32_ne().ok()?).ok()?;
        let kind = header.try_get_u16_ne().ok()?;
        let flags = header.try_get_u16_ne().ok()?;
        let sequence = header.try_get_u32_ne().ok()?;
        let payload = whole.get(HEADER..length)?;
        datagram = whole.get(align(length)?..).unwrap_or_default();
        Some(Message { kind, flags, sequence, payload })
    })
}

/// Any bytes as a datagram, and the payload of each message as what `each` makes of it; any bytes as
/// the answer about a family.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn any_bytes(bytes: &[u8], mut each: impl FnMut(&[u8])) {
    for message in messages(bytes) {
        let _ = message.verdict();
        let _ = Family::told(&nlctrl::OpGetfamilyDo::decode_reply(message.payload));
        each(message.payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u32_ne(u32::try_from(HEADER + payload.len()).expect("short"));
        bytes.put_u16_ne(kind);
        bytes.put_u16_ne(flags);
        bytes.put_u32_ne(7);
        bytes.put_u32_ne(0);
        bytes.put_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_datagram_holds_several_messages() {
        let mut datagram = message(20, 2, b"abc");
        datagram.extend(message(NLMSG_DONE, 2, &0i32.to_ne_bytes()));
        let all: Vec<Message<'_>> = messages(&datagram).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].kind, all[0].payload, all[0].sequence), (20, &b"abc"[..], 7));
        assert_eq!(all[1].verdict(), Ok(()));
    }

    #[test]
    fn the_kernels_words_follow_the_repeated_request() {
        let mut payload = (-22i32).to_ne_bytes().to_vec();
        payload.extend(message(30, 0, b"request"));
        payload.extend([8, 0, 1, 0]); // NLMSGERR_ATTR_MSG
        payload.extend(b"no!\0");
        let datagram = message(NLMSG_ERROR, NLM_F_ACK_TLVS, &payload);
        let refusal = messages(&datagram).next().expect("one").verdict().expect_err("refused");
        assert_eq!(refusal, Refusal { errno: Errno::INVAL, words: Some("no!".to_owned()) });
    }

    #[test]
    fn the_control_family_knows_itself_and_ethtool() {
        let mut netlink = Netlink::generic().expect("a socket");
        let control = netlink.family("nlctrl").expect("answered").expect("always there");
        assert_eq!(control.id, GENL_ID_CTRL);
        assert!(control.operations.contains(&3), "CTRL_CMD_GETFAMILY");
        assert_eq!(netlink.family("nosuchfamily"), Ok(None));
    }

    proptest! {
        #[test]
        fn any_datagram_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            any_bytes(&bytes, |_| {});
        }

        /// Lengths that lie, around a plausible message.
        #[test]
        fn lengths_that_lie_are_noticed(
            length in 0u32..80, kind in 0u16..40, flags in any::<u16>(), code in any::<i32>(),
            inner in 0u32..80, tail in prop::collection::vec(any::<u8>(), 0..60)
        ) {
            let mut payload = code.to_ne_bytes().to_vec();
            payload.put_u32_ne(inner);
            payload.extend(tail);
            let mut datagram = message(kind, flags, &payload);
            datagram[..4].copy_from_slice(&length.to_ne_bytes());
            for message in messages(&datagram).take(100) {
                let _ = message.verdict();
            }
        }
    }
}
