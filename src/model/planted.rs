//! A switch by which a test leaves one guard out of the code, to see that the simulator misses it.
//!
//! It is no state of the rooms that ask it: outside of this crate's own tests there is none, and the question is a
//! constant `false` that the compiler takes away with all that hangs on it. In tests it belongs to the thread, and a
//! run of the simulator is one thread; so runs beside each other do not see each other's switch, and a seed stays
//! one run. It knows no guard but by name: what each does stands where it is asked for.

/// A rule that the code keeps in one place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Guard {
    /// A write is answered when a quorum has it on disk.
    WriteQuorum,
    /// A write that met something newer in its region is stamped again above it.
    Restamp,
    /// A conditional write is not: what hides it, its condition has not seen.
    RestampCondition,
    /// A write that may yet stand at a majority is not stamped again.
    StandFirst,
    /// What may yet be stamped again does not leave its region.
    Decided,
    /// What a repair has brought before its log stood, whatever is there when the log comes.
    Stood,
    /// Where a write stood counts only if the replica served.
    StoodServing,
    /// A read is answered when a quorum has spoken.
    ReadQuorum,
    /// A read is answered when what it shows is on a quorum.
    WriteBack,
    /// A read does not show what something newer met while it was brought to a replica.
    Hidden,
    /// A read brings a replica only what it lacks.
    RepairLacking,
    /// What a removal takes away is first made the same on a quorum.
    Observe,
    /// That there was nothing to do is first made known to a quorum.
    Confirm,
    /// Nothing leaves its region before a quorum of it has it.
    StableFirst,
    /// A sender vouches only for streams out of which nothing was left.
    WholeStream,
    /// A piece of log is not applied beyond a hole.
    AppendGap,
    /// A piece of log is whole only for those who had all before it.
    AppendWhole,
    /// What is stamped is above all that is known, not just the wall clock.
    StampAbove,
    /// What is stamped is above all times that were vouched for.
    StampVouched,
    /// Times too far ahead are not taken in.
    MaxOffset,
    /// A watermark counts when the log is here up to its number.
    MarkWaits,
    /// A session's read waits for what the session has seen.
    SessionGate,
    /// A session's write that takes away waits for what the session has seen.
    WriteGate,
    /// What a session reads at one replica, a quorum has.
    Settled,
    /// A read with an age limit waits for what was written up to then.
    FreshGate,
    /// The door looks whether a condition holds.
    Condition,
    /// A write on a condition says if it crossed another.
    Crossed,
    /// An operation that is passed on twice is done once.
    ForwardOnce,
    /// An operation id that is known is not counted again by the same node.
    KnownOnce,
    /// What was added more than once is taken off a counter.
    Surplus,
    /// What a replica knows of and has not was deleted there.
    Absorb,
    /// A merge keeps all siblings.
    MergeAll,
    /// What was seen is forgotten only when it is stable.
    Compact,
    /// A client's context does not cover what this node will yet write.
    OwnContext,
    /// Rows that come late are stripped of what a clear covers.
    LateClear,
    /// Rows that come late are passed through the cut of expiry.
    LateExpiry,
    /// Readers see nothing that is beyond its time, cut or not.
    ReadLive,
    /// Tombstones do not count in the digest.
    DigestGraves,
    /// Tombstones are collected only when all that was made without knowledge of them is everywhere.
    SecondStep,
    /// Only moments collect.
    Moments,
    /// A life is retired when it is trimmed, collected, and noted by all.
    RetirePause,
    /// What others have retired and was not noted here is fetched.
    RetireFill,
    /// A replica serves when it has caught up.
    CaughtUp,
    /// That a partition is fenced is on its disk.
    FenceKept,
    /// A reborn peer counts again when it has what it once had.
    OnceHeld,
    /// A conflict is counted by who wrote the loser.
    LoserCounts,
}

#[cfg(test)]
pub(crate) use switch::{LeftOut, is_left_out, leave_out};

/// Whether a test has left this guard out.
#[cfg(not(test))]
pub(crate) const fn is_left_out(_guard: Guard) -> bool {
    false
}

#[cfg(test)]
mod switch {
    use std::cell::Cell;

    use super::Guard;

    thread_local! {
        static LEFT_OUT: Cell<Option<Guard>> = const { Cell::new(None) };
    }

    /// While this lives, its thread does without a guard.
    #[derive(Debug)]
    pub(crate) struct LeftOut {
        before: Option<Guard>,
        /// It must be dropped where it was made.
        _here: std::marker::PhantomData<*const ()>,
    }

    /// Leaves a guard out on this thread; nothing leaves all in.
    pub(crate) fn leave_out(guard: Option<Guard>) -> LeftOut {
        LeftOut {
            before: LEFT_OUT.replace(guard),
            _here: std::marker::PhantomData,
        }
    }

    impl Drop for LeftOut {
        fn drop(&mut self) {
            LEFT_OUT.set(self.before);
        }
    }

    /// Whether a test has left this guard out.
    pub(crate) fn is_left_out(guard: Guard) -> bool {
        LEFT_OUT.get() == Some(guard)
    }

    #[test]
    fn a_guard_is_left_out_while_the_switch_lives() {
        let is_out = || is_left_out(Guard::WriteQuorum);
        assert!(!is_out());
        let switch = leave_out(Some(Guard::WriteQuorum));
        assert!(is_out());
        assert!(!is_left_out(Guard::ReadQuorum));
        {
            let _all_in = leave_out(None);
            assert!(!is_out());
        }
        assert!(is_out());
        drop(switch);
        assert!(!is_out());
    }
}
