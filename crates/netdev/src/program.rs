//! Socket filters: the kernel drops what a port does not want before it costs anything. Classic BPF, as of `linux/filter.h`.

use std::os::fd::BorrowedFd;

use libc::sock_filter;

use crate::{NetdevError, sys};

const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_LARGER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const IF_NOT_LESS: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// What the kernel knows of a frame besides its bytes (`SKF_AD_OFF`).
const BESIDES: u32 = 0xffff_f000;
const TAG: u32 = BESIDES + 44;
const TAG_IS_THERE: u32 = BESIDES + 48;

const ALL_OF_IT: u32 = u32::MAX;
/// The most instructions that the kernel takes.
const MOST: usize = 4096;

/// A socket filter.
#[derive(Debug, Clone)]
pub struct Program(Vec<sock_filter>);

impl Program {
    /// Gives a tap the filter, which counts for all its queues, or takes away what it has.
    ///
    /// # Errors
    /// [`NetdevError::System`]; macvtaps take none.
    pub fn set_on_tap(program: Option<&Self>, fd: BorrowedFd<'_>) -> Result<(), NetdevError> {
        sys::set_tap_program(fd, program.map(|program| &*program.0))
            .map_err(|errno| NetdevError::admin("setting the filter of a tap", errno))
    }

    /// Gives a socket the filter, or takes away what it has; that it has none is no error.
    ///
    /// # Errors
    /// [`NetdevError::System`].
    pub fn set_on_socket(program: Option<&Self>, fd: BorrowedFd<'_>) -> Result<(), NetdevError> {
        match sys::set_socket_program(fd, program.map(|program| &*program.0)) {
            Err(rustix::io::Errno::NOENT) if program.is_none() => Ok(()),
            result => {
                result.map_err(|errno| NetdevError::admin("setting the filter of a socket", errno))
            }
        }
    }
}

const fn step(code: u16, value: u32) -> sock_filter {
    sock_filter {
        code,
        jt: 0,
        jf: 0,
        k: value,
    }
}

/// Goes on so many instructions further when it is so, and so many when not.
const fn branch(code: u16, value: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter {
        code,
        jt: yes,
        jf: no,
        k: value,
    }
}

/// Lets frames pass that have no VLAN tag, one of priority only (id 0), or one of `ids`: whether the tag is in the frame or beside it. `None` when
/// the kernel would not take a program for so many ranges of ids.
#[must_use]
pub fn vlan_program(ids: impl IntoIterator<Item = u16>) -> Option<Program> {
    let mut program = vec![
        step(LOAD_WORD, TAG_IS_THERE),
        branch(IF_EQUAL, 0, 2, 0),
        step(LOAD_WORD, TAG),
        step(JUMP, 4),
        step(LOAD_HALF, 12),
        branch(IF_EQUAL, 0x8100, 1, 0),
        step(RETURN, ALL_OF_IT),
        step(LOAD_HALF, 14),
        step(AND, 0xfff),
    ];
    let mut ranges = vec![(0, 0)];
    for id in ids {
        match ranges.last_mut() {
            Some((_, last)) if id == *last + 1 => *last = id,
            Some((_, last)) if id <= *last => (),
            _ => ranges.push((id, id)),
        }
    }
    for (first, last) in ranges {
        program.push(branch(IF_NOT_LESS, first.into(), 0, 2));
        program.push(branch(IF_LARGER, last.into(), 1, 0));
        program.push(step(RETURN, ALL_OF_IT));
    }
    program.push(step(RETURN, 0));
    (program.len() <= MOST).then_some(Program(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with a frame: its bytes, and a tag beside it.
    fn passes(program: &Program, frame: &[u8], tag: Option<u16>) -> bool {
        let (mut at, mut a) = (0, 0u32);
        loop {
            let sock_filter { code, jt, jf, k } = program.0[at];
            at += 1;
            let mut branch = |yes: bool| at += usize::from(if yes { jt } else { jf });
            match code {
                LOAD_WORD if k == TAG_IS_THERE => a = tag.is_some().into(),
                LOAD_WORD if k == TAG => a = tag.unwrap_or(0).into(),
                LOAD_HALF => {
                    let at = k as usize;
                    // The kernel drops a frame that is too short.
                    let Some(two) = frame.get(at..at + 2) else {
                        return false;
                    };
                    a = u16::from_be_bytes([two[0], two[1]]).into();
                }
                AND => a &= k,
                IF_EQUAL => branch(a == k),
                IF_LARGER => branch(a > k),
                IF_NOT_LESS => branch(a >= k),
                JUMP => at += k as usize,
                RETURN => return k > 0,
                other => panic!("{other:#x}"),
            }
        }
    }

    fn tagged(tci: u16) -> Vec<u8> {
        let [high, low] = tci.to_be_bytes();
        let mut frame = vec![0; 60];
        frame[12..16].copy_from_slice(&[0x81, 0x00, high, low]);
        frame
    }

    /// Of each id, in the frame or beside it: those of the set pass, as do priority tags and no tag.
    #[test]
    fn vlans() {
        let wanted = [1, 2, 3, 7, 100, 4095];
        let program = vlan_program(wanted).unwrap();
        assert!(passes(&program, &[0; 60], None));
        for id in 0..4096 {
            let expected = id == 0 || wanted.contains(&id);
            assert_eq!(passes(&program, &tagged(id), None), expected, "{id}");
            assert_eq!(passes(&program, &tagged(id | 0xe000), None), expected);
            assert_eq!(passes(&program, &[0; 60], Some(id | 0x2000)), expected);
        }
        let none = vlan_program([]).unwrap();
        assert!(passes(&none, &tagged(0), None) && !passes(&none, &tagged(1), None));
    }

    /// A set in so many pieces that the kernel takes no program for it is left to software.
    #[test]
    fn too_many_ranges() {
        assert!(vlan_program((0..4096).filter(|id| id % 2 == 1)).is_none());
        assert!(vlan_program(0..4096).is_some());
    }
}
