//! Classic BPF: the programs that libpcap makes of filter expressions (`tcpdump -ddd`).

use crate::PortError;

/// Most instructions, as in the kernel.
const MOST: usize = 4096;
/// Words of scratch memory.
const SCRATCH: usize = 16;

// Classes of instructions, and the parts of a code (linux/bpf_common.h).
const LD: u16 = 0;
const LDX: u16 = 1;
const ST: u16 = 2;
const STX: u16 = 3;
const ALU: u16 = 4;
const JMP: u16 = 5;
const RET: u16 = 6;
const MISC: u16 = 7;
const CLASS: u16 = 7;
const SIZE: u16 = 0x18;
const MODE: u16 = 0xe0;
const OP: u16 = 0xf0;
const FROM_X: u16 = 8;

/// An instruction, as in `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

/// A program that ends, reads nothing but the packet, and says how much of a packet is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Vec<Instruction>);

impl Filter {
    /// Reads what `tcpdump -ddd` prints: the number of instructions, then code, jt, jf and k of each.
    ///
    /// # Errors
    /// [`PortError::Filter`]: it is no such program.
    pub fn parse(text: &str) -> Result<Self, PortError> {
        let wrong = |got: String| PortError::Filter { got };
        let mut numbers = text.split_whitespace().map(str::parse::<u32>);
        let mut next = |what: &str| match numbers.next() {
            Some(Ok(number)) => Ok(number),
            Some(Err(_)) => Err(wrong(format!("something else than a number for {what}"))),
            None => Err(wrong(format!("the end of the text in the place of {what}"))),
        };
        let count = next("the number of instructions")? as usize;
        if !(1..=MOST).contains(&count) {
            return Err(wrong(format!("{count} instructions")));
        }
        let narrow = |what: &str, number: u32| {
            u8::try_from(number).map_err(|_| wrong(format!("{what} {number}")))
        };
        let mut program = Vec::with_capacity(count);
        for _ in 0..count {
            let code = next("a code")?;
            program.push(Instruction {
                code: u16::try_from(code).map_err(|_| wrong(format!("code {code}")))?,
                jt: narrow("jt", next("jt")?)?,
                jf: narrow("jf", next("jf")?)?,
                k: next("k")?,
            });
        }
        for (at, instruction) in program.iter().enumerate() {
            check(instruction, at, count)
                .map_err(|what| wrong(format!("{what} in instruction {at}")))?;
        }
        if program.last().is_none_or(|last| last.code & CLASS != RET) {
            return Err(wrong("a program without an end".into()));
        }
        Ok(Self(program))
    }

    /// Bytes of the packet that are wanted: 0 when it is not. `bytes` is what there is of it, `len` its length.
    #[must_use]
    pub fn run(&self, bytes: &[u8], len: u32) -> u32 {
        let mut machine = Machine {
            a: 0,
            x: 0,
            scratch: [0; SCRATCH],
            bytes,
            len,
        };
        let mut at = 0;
        // Jumps go forward only, so each instruction runs once at most.
        while let Some(&instruction) = self.0.get(at) {
            match machine.step(instruction) {
                Step::Next => at += 1,
                Step::Skip(count) => at += 1 + count,
                Step::Done(wanted) => return wanted,
            }
        }
        0
    }
}

/// What is wrong with an instruction, if anything is.
fn check(instruction: &Instruction, at: usize, count: usize) -> Result<(), String> {
    let &Instruction { code, jt, jf, k } = instruction;
    let unknown = || Err(format!("the unknown code {code:#x}"));
    match code & CLASS {
        LD | LDX => match (code & MODE, code & SIZE) {
            (0x60, 0) if k as usize >= SCRATCH => return Err(format!("scratch word {k}")),
            (0x00 | 0x60 | 0x80, 0) => {}
            (0x20 | 0x40, 0 | 8 | 16) if code & CLASS == LD => {}
            (0xa0, 16) if code & CLASS == LDX => {}
            _ => return unknown(),
        },
        ST | STX if k as usize >= SCRATCH => return Err(format!("scratch word {k}")),
        ST | STX if code & !CLASS == 0 => {}
        ALU => match code & OP {
            0x30 | 0x90 if code & FROM_X == 0 && k == 0 => return Err("a division by 0".into()),
            0x60 | 0x70 if code & FROM_X == 0 && k > 31 => return Err(format!("a shift by {k}")),
            0x00..=0xa0 => {}
            _ => return unknown(),
        },
        JMP => {
            let furthest = match code & OP {
                0x00 => k as usize,
                0x10 | 0x20 | 0x30 | 0x40 => jt.max(jf).into(),
                _ => return unknown(),
            };
            if furthest >= count - at - 1 {
                return Err(format!("a jump over {furthest} instructions"));
            }
        }
        RET if matches!(code, 0x06 | 0x16 | 0x0e) => {}
        MISC if matches!(code & 0xf8, 0x00 | 0x80) => {}
        _ => return unknown(),
    }
    Ok(())
}

enum Step {
    Next,
    Skip(usize),
    Done(u32),
}

struct Machine<'a> {
    a: u32,
    x: u32,
    scratch: [u32; SCRATCH],
    bytes: &'a [u8],
    len: u32,
}

impl Machine<'_> {
    /// The number of `size` bytes at `at`; outside of the packet there is none, which ends the program.
    fn load(&self, at: u32, size: u16) -> Option<u32> {
        let at = at as usize;
        let rest = self.bytes.get(at..)?;
        Some(match size {
            0 => u32::from_be_bytes(*rest.first_chunk()?),
            8 => u16::from_be_bytes(*rest.first_chunk()?).into(),
            _ => u32::from(*rest.first()?),
        })
    }

    fn step(&mut self, instruction: Instruction) -> Step {
        let Instruction { code, jt, jf, k } = instruction;
        match code & CLASS {
            LD | LDX => {
                let loaded = match code & MODE {
                    0x00 => Some(k),
                    0x20 => self.load(k, code & SIZE),
                    0x40 => self
                        .x
                        .checked_add(k)
                        .and_then(|at| self.load(at, code & SIZE)),
                    0x60 => self.scratch.get(k as usize).copied(),
                    0x80 => Some(self.len),
                    // The length of an IPv4 header, in words of four bytes.
                    _ => self.load(k, 16).map(|byte| (byte & 15) * 4),
                };
                let Some(loaded) = loaded else {
                    return Step::Done(0);
                };
                *(if code & CLASS == LD {
                    &mut self.a
                } else {
                    &mut self.x
                }) = loaded;
            }
            ST | STX => {
                let value = if code & CLASS == ST { self.a } else { self.x };
                if let Some(word) = self.scratch.get_mut(k as usize) {
                    *word = value;
                }
            }
            ALU => match self.compute(code, k) {
                Some(result) => self.a = result,
                None => return Step::Done(0),
            },
            JMP => {
                let operand = if code & FROM_X == 0 { k } else { self.x };
                let yes = match code & OP {
                    0x00 => return Step::Skip(k as usize),
                    0x10 => self.a == operand,
                    0x20 => self.a > operand,
                    0x30 => self.a >= operand,
                    _ => self.a & operand != 0,
                };
                return Step::Skip(if yes { jt } else { jf }.into());
            }
            RET => return Step::Done(if code & 0x18 == 0x10 { self.a } else { k }),
            _ if code & 0x80 == 0 => self.x = self.a,
            _ => self.a = self.x,
        }
        Step::Next
    }

    /// What the accumulator becomes; a division by 0 ends the program.
    fn compute(&self, code: u16, k: u32) -> Option<u32> {
        let (a, operand) = (self.a, if code & FROM_X == 0 { k } else { self.x });
        Some(match code & OP {
            0x00 => a.wrapping_add(operand),
            0x10 => a.wrapping_sub(operand),
            0x20 => a.wrapping_mul(operand),
            0x30 => a.checked_div(operand)?,
            0x40 => a | operand,
            0x50 => a & operand,
            0x60 => a.checked_shl(operand).unwrap_or(0),
            0x70 => a.checked_shr(operand).unwrap_or(0),
            0x80 => a.wrapping_neg(),
            0x90 => a.checked_rem(operand)?,
            _ => a ^ operand,
        })
    }
}

#[cfg(test)]
mod tests;
