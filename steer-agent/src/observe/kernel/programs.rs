//! The kernel side's programs: one table of what each hooks, which observer uses it, how much it is
//! needed, and what stands in for it on a kernel that has not got the hook.
//!
//! Order and priority are data here, not code paths: programs are attached in the table's order.

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, FEntry, Program, ProgramError, Xdp, XdpMode},
};

use super::{Observer, nics::WatchedNic};
use crate::model::{Fact, Facts};

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    /// A tracepoint, by the types of its arguments (since 5.5).
    Tracepoint(&'static str),
    /// The entry of a kernel function (since 5.5, on machines with a trampoline).
    Function(&'static str),
    /// Each NIC's receive path (since 4.8).
    Xdp,
}

/// How much a program is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Nothing works without it.
    Required,
    /// One of those that say so must be attached.
    OneOf,
    /// Without it something is not seen.
    Optional,
}

/// A line of the table.
pub(super) struct Spec {
    /// The function's name in the object.
    pub(super) name: &'static str,
    hook: Hook,
    observers: &'static [Observer],
    need: Need,
    /// What it is for, and what happens without it.
    purpose: &'static str,
}

const TRACING: &[Observer] = &[Observer::Tracing];
const BOTH: &[Observer] = &[Observer::Tracing, Observer::Xdp];

const PROGRAMS: &[Spec] = &[
    Spec {
        name: "receive_gro",
        hook: Hook::Tracepoint("napi_gro_receive_entry"),
        observers: TRACING,
        need: Need::OneOf,
        purpose: "counts packets by queue and bucket; nearly every driver passes here",
    },
    Spec {
        name: "receive_frags",
        hook: Hook::Tracepoint("napi_gro_frags_entry"),
        observers: TRACING,
        need: Need::OneOf,
        purpose: "the same for drivers that hand over bare pages (mlx4, sfc, ixgbevf with jumbo frames)",
    },
    Spec {
        name: "receive_skb",
        hook: Hook::Tracepoint("netif_receive_skb_entry"),
        observers: TRACING,
        need: Need::OneOf,
        purpose: "the same for drivers that bypass GRO",
    },
    Spec {
        name: "receive_list",
        hook: Hook::Tracepoint("netif_receive_skb_list_entry"),
        observers: TRACING,
        need: Need::Optional,
        purpose: "the same for drivers that bypass GRO with lists of packets (sfc)",
    },
    Spec {
        name: "observe_xdp",
        hook: Hook::Xdp,
        observers: &[Observer::Xdp],
        need: Need::Required,
        purpose: "notes queue and CPU of each flow",
    },
    Spec {
        name: "consume_tcp",
        hook: Hook::Tracepoint("tcp_rcv_space_adjust"),
        observers: BOTH,
        need: Need::Required,
        purpose: "counts where TCP data is consumed",
    },
    Spec {
        name: "consume_udp",
        hook: Hook::Function("skb_consume_udp"),
        observers: BOTH,
        need: Need::Optional,
        purpose: "counts where datagrams are consumed; without it UDP is not seen",
    },
];

/// A program and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramStatus {
    /// Its name.
    pub name: &'static str,
    /// Where it hooks in, for people to read.
    pub hook: String,
    /// Whether it is attached, or why not.
    pub attached: Fact,
    /// Instructions that the verifier walked through; `None` where the kernel does not tell
    /// (before 5.16).
    pub verified_instructions: Option<u32>,
}

impl Hook {
    fn text(self) -> String {
        match self {
            Self::Tracepoint(name) => format!("tp_btf/{name}"),
            Self::Function(name) => format!("fentry/{name}"),
            Self::Xdp => "xdp".to_owned(),
        }
    }
}

/// Whether an observer can run on this host, with a sentence where it cannot.
#[must_use]
pub fn can_run(observer: Observer, facts: &Facts) -> Fact {
    let needs = match observer {
        Observer::Tracing => vec![&facts.btf, &facts.may_trace],
        // Attaching to a NIC's receive path is a NIC setting.
        Observer::Xdp => vec![&facts.btf, &facts.may_trace, &facts.may_set_nic],
    };
    needs.into_iter().find(|fact| !fact.yes()).cloned().unwrap_or(Fact::Yes)
}

/// Loads and attaches the observer's programs. Fails if one that is needed cannot be attached; the
/// others' reasons stand in their status.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    btf: &Btf,
    observer: Observer,
    nics: &[WatchedNic],
) -> Result<Vec<ProgramStatus>> {
    let mut statuses = Vec::new();
    let mut one_of: Option<Result<()>> = None;
    for spec in of(observer) {
        let outcome = attach_one(ebpf, btf, spec, nics);
        let status = status(ebpf, spec, &outcome);
        let needed = || format!("program {} ({}: {})", spec.name, status.hook, spec.purpose);
        match spec.need {
            Need::Required => outcome.with_context(needed)?,
            Need::OneOf => {
                let so_far = one_of.take();
                one_of = Some(match so_far {
                    Some(Ok(())) => Ok(()),
                    _ => outcome.with_context(needed),
                });
            }
            Need::Optional => {}
        }
        statuses.push(status);
    }
    one_of.transpose().context("none of the programs that count packets could be attached")?;
    Ok(statuses)
}

fn attach_one(ebpf: &mut Ebpf, btf: &Btf, spec: &Spec, nics: &[WatchedNic]) -> Result<()> {
    load_one(ebpf, btf, spec).map_err(|error| match spec.hook {
        Hook::Function(_) => explain_fentry(error),
        Hook::Tracepoint(_) | Hook::Xdp => error.into(),
    })?;
    let program = ebpf.program_mut(spec.name).ok_or_else(|| anyhow!("it is not in the object"))?;
    match spec.hook {
        Hook::Tracepoint(_) => {
            <&mut BtfTracePoint>::try_from(program)?.attach()?;
        }
        Hook::Function(_) => {
            <&mut FEntry>::try_from(program)?.attach()?;
        }
        Hook::Xdp => {
            let program: &mut Xdp = program.try_into()?;
            for nic in nics {
                attach_xdp(program, nic)?;
            }
        }
    }
    Ok(())
}

/// Hands a program to the verifier.
pub(super) fn load_one(ebpf: &mut Ebpf, btf: &Btf, spec: &Spec) -> Result<(), ProgramError> {
    // That all of the table are in the object is seen by every start.
    let program = ebpf.program_mut(spec.name).ok_or(ProgramError::NotLoaded)?;
    match spec.hook {
        Hook::Tracepoint(name) => <&mut BtfTracePoint>::try_from(program)?.load(name, btf),
        Hook::Function(name) => <&mut FEntry>::try_from(program)?.load(name, btf),
        Hook::Xdp => <&mut Xdp>::try_from(program)?.load(),
    }
}

/// The programs of an observer.
pub(super) fn of(observer: Observer) -> impl Iterator<Item = &'static Spec> {
    PROGRAMS.iter().filter(move |spec| spec.observers.contains(&observer))
}

/// The verifier has no objection that it would report as "not permitted": that is a policy.
fn explain_fentry(error: ProgramError) -> anyhow::Error {
    match &error {
        ProgramError::LoadError { io_error, verifier_log }
            if io_error.raw_os_error() == Some(libc::EPERM)
                && verifier_log.to_string().is_empty() =>
        {
            anyhow!("this kernel lets no program hook a function ({io_error})")
        }
        _ => error.into(),
    }
}

/// In the driver where it can, else in the generic path. There the program runs after RPS
/// (`do_xdp_generic` in `__netif_receive_skb_core`), so that it sees the polling CPU only where RPS
/// is off.
fn attach_xdp(program: &mut Xdp, nic: &WatchedNic) -> Result<()> {
    let Err(native) = program.attach_to_if_index(nic.ifindex, XdpMode::Driver) else {
        return Ok(());
    };
    log::info!(
        "{}: its driver takes no XDP program ({native}); attaching the generic way",
        nic.name
    );
    match program.attach_to_if_index(nic.ifindex, XdpMode::Skb) {
        Ok(_) => Ok(()),
        Err(generic) => bail!(
            "cannot attach to {}: {generic} (another XDP program may be there: `ip link show {}`)",
            nic.name,
            nic.name
        ),
    }
}

fn status(ebpf: &Ebpf, spec: &Spec, outcome: &Result<()>) -> ProgramStatus {
    let info = ebpf.program(spec.name).and_then(|program| Program::info(program).ok());
    ProgramStatus {
        name: spec.name,
        hook: spec.hook.text(),
        attached: match outcome {
            Ok(()) => Fact::Yes,
            Err(error) => Fact::No(format!("{error:#}")),
        },
        verified_instructions: info.and_then(|info| info.verified_instruction_count()),
    }
}

/// Sentences about the optional programs that are not attached.
pub(super) fn missing(statuses: &[ProgramStatus]) -> Vec<String> {
    let purpose = |name| PROGRAMS.iter().find(|spec| spec.name == name).map(|spec| spec.purpose);
    statuses
        .iter()
        .filter_map(|status| {
            let why = status.attached.why()?;
            let purpose = purpose(status.name).unwrap_or_default();
            Some(format!("{} is not attached: {why} ({purpose})", status.hook))
        })
        .collect()
}
