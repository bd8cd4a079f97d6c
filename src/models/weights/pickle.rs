//! Reads the pickle inside a file of `torch.save` as data. Nothing is imported, called or executed:
//! of the pickle language only what a state dict of plain tensors needs is understood, and every
//! other opcode or global is an error that names it.
//!
//! Containers lie in flat lists and are named by index, so neither depth nor sharing in a hostile
//! file costs more than its length.

use std::collections::BTreeMap;
use std::rc::Rc;

use tch::Kind;

/// A tensor as the pickle describes it; the numbers lie in the archive's record `storage`.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorRecord {
    pub storage: Rc<str>,
    pub kind: Kind,
    /// In elements of the storage.
    pub offset: usize,
    pub shape: Vec<usize>,
    /// In elements.
    pub strides: Vec<usize>,
}

/// More than any state dict's pickle has: a thousand times the 100 KiB of a 7B model.
pub const LARGEST_PICKLE: usize = 128 << 20;
const MOST_DIMENSIONS: usize = 8;

#[derive(Debug, Clone)]
enum Value {
    None,
    Bool,
    Int(i64),
    Text(Rc<str>),
    /// An index into `Machine::tuples`.
    Tuple(usize),
    /// An index into `Machine::dicts`.
    Dict(usize),
    /// Its items are of no use to us.
    List,
    Global(Global),
    Storage {
        key: Rc<str>,
        kind: Kind,
    },
    Tensor(Rc<TensorRecord>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Kind),
}

/// All that may be named. `torch.FloatStorage` and its like are names of kinds here, not classes.
fn global(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch", "FloatStorage") => Global::Storage(Kind::Float),
        ("torch", "HalfStorage") => Global::Storage(Kind::Half),
        ("torch", "BFloat16Storage") => Global::Storage(Kind::BFloat16),
        ("torch", "DoubleStorage") => Global::Storage(Kind::Double),
        ("torch", "LongStorage") => Global::Storage(Kind::Int64),
        ("torch", "IntStorage") => Global::Storage(Kind::Int),
        ("torch", "ShortStorage") => Global::Storage(Kind::Int16),
        ("torch", "CharStorage") => Global::Storage(Kind::Int8),
        ("torch", "ByteStorage") => Global::Storage(Kind::Uint8),
        ("torch", "BoolStorage") => Global::Storage(Kind::Bool),
        _ => return None,
    })
}

/// The tensors of a pickled state dict by name; entries that are no tensors are left out.
pub fn state_dict(bytes: &[u8]) -> Result<BTreeMap<String, TensorRecord>, String> {
    if bytes.len() > LARGEST_PICKLE {
        return Err(format!(
            "its pickle has {} bytes, more than the {LARGEST_PICKLE} that any model needs",
            bytes.len()
        ));
    }
    let mut machine = Machine {
        bytes,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
        tuples: vec![],
        dicts: vec![],
    };
    let at =
        |machine: &Machine, error: String| format!("at byte {} of its pickle: {error}", machine.at);
    let result = machine.run().map_err(|error| at(&machine, error))?;
    let Value::Dict(dict) = result else { return Err("its pickle holds no state dict".to_owned()) };
    let mut tensors = BTreeMap::new();
    for (key, value) in &machine.dicts[dict] {
        let (Value::Text(name), Value::Tensor(tensor)) = (key, value) else { continue };
        if tensors.insert(name.to_string(), TensorRecord::clone(tensor)).is_some() {
            return Err(format!("tensor `{name}` is there twice"));
        }
    }
    Ok(tensors)
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Stack heights.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value>,
    tuples: Vec<Vec<Value>>,
    dicts: Vec<Vec<(Value, Value)>>,
}

type Step<T = ()> = Result<T, String>;

impl<'a> Machine<'a> {
    fn run(&mut self) -> Step<Value> {
        loop {
            match self.byte()? {
                b'.' => return self.pop(),
                opcode => self.step(opcode)?,
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Step {
        match opcode {
            0x80 => match self.byte()? {
                2..=5 => {}
                version => {
                    return Err(format!("pickle protocol {version} is not one of torch.save"));
                }
            },
            0x95 => drop(self.take(8)?), // FRAME
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'N' => self.stack.push(Value::None),
            0x88 | 0x89 => self.stack.push(Value::Bool),
            b'K' => self.unsigned(1)?,
            b'M' => self.unsigned(2)?,
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(value.into()));
            }
            0x8a => self.long()?,
            b'G' => {
                let _float: [u8; 8] = self.array()?;
                self.stack.push(Value::None);
            }
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            b')' => self.tuple(Vec::new()),
            0x85 => self.tuple_of(1)?,
            0x86 => self.tuple_of(2)?,
            0x87 => self.tuple_of(3)?,
            b't' => {
                let items = self.pop_mark()?;
                self.tuple(items);
            }
            b']' => self.stack.push(Value::List),
            b'a' => {
                self.pop()?;
                self.expect_list()?;
            }
            b'e' => {
                self.pop_mark()?;
                self.expect_list()?;
            }
            b'}' => self.dict(),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.fill(vec![key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.fill(items)?;
            }
            b'q' => {
                let index = self.byte()?.into();
                self.memorise(index)?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.array()?);
                self.memorise(index)?;
            }
            0x94 => self.memorise(self.memo.len() as u32)?,
            b'h' => {
                let index = self.byte()?.into();
                self.recall(index)?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.array()?);
                self.recall(index)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => self.global(&module, &name)?,
                _ => return Err("a global without a name".to_owned()),
            },
            b'Q' => self.persistent()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            other => return Err(format!("opcode 0x{other:02x} has no place in a state dict")),
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        let taken = self
            .at
            .checked_add(count)
            .and_then(|end| self.bytes.get(self.at..end))
            .ok_or("it ends too early")?;
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Step<u8> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let taken = self.take(N)?;
        Ok(std::array::from_fn(|index| taken[index]))
    }

    fn little_endian(&mut self, width: usize) -> Step<u64> {
        Ok(self.take(width)?.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn unsigned(&mut self, width: usize) -> Step {
        let value = self.little_endian(width)?;
        self.stack.push(Value::Int(value as i64));
        Ok(())
    }

    /// LONG1: little-endian two's complement of any width.
    fn long(&mut self) -> Step {
        let width = self.byte()?.into();
        let bytes = self.take(width)?;
        if width > 8 {
            return Err("a number of more than 64 bits".to_owned());
        }
        let sign = if bytes.last().is_some_and(|&last| last >= 0x80) { -1 } else { 0 };
        let value = bytes.iter().rev().fold(sign, |value: i64, &byte| value << 8 | i64::from(byte));
        self.stack.push(Value::Int(value));
        Ok(())
    }

    fn text(&mut self, width: usize) -> Step {
        let length =
            usize::try_from(self.little_endian(width)?).map_err(|_| "it ends too early")?;
        let text =
            std::str::from_utf8(self.take(length)?).map_err(|_| "a name that is not UTF-8")?;
        self.stack.push(Value::Text(text.into()));
        Ok(())
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("it ends too early")?;
        self.at += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|_| "a name that is not UTF-8".to_owned())
    }

    fn pop(&mut self) -> Step<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("its stack is empty".to_owned());
        }
        self.stack.pop().ok_or_else(|| "its stack is empty".to_owned())
    }

    fn pop_mark(&mut self) -> Step<Vec<Value>> {
        let mark = self.marks.pop().ok_or("a mark is missing")?;
        Ok(self.stack.split_off(mark))
    }

    fn tuple(&mut self, items: Vec<Value>) {
        self.stack.push(Value::Tuple(self.tuples.len()));
        self.tuples.push(items);
    }

    fn tuple_of(&mut self, count: usize) -> Step {
        let mut items = (0..count).map(|_| self.pop()).collect::<Step<Vec<_>>>()?;
        items.reverse();
        self.tuple(items);
        Ok(())
    }

    fn dict(&mut self) {
        self.stack.push(Value::Dict(self.dicts.len()));
        self.dicts.push(Vec::new());
    }

    fn expect_list(&self) -> Step {
        if matches!(self.stack.last(), Some(Value::List)) {
            Ok(())
        } else {
            Err("items for something that is no list".to_owned())
        }
    }

    /// Keys and values, by turns, for the dict on top of the stack.
    fn fill(&mut self, items: Vec<Value>) -> Step {
        let Some(Value::Dict(dict)) = self.stack.last() else {
            return Err("items for something that is no dict".to_owned());
        };
        if !items.len().is_multiple_of(2) {
            return Err("a key without a value".to_owned());
        }
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            self.dicts[*dict].push((key, value));
        }
        Ok(())
    }

    fn memorise(&mut self, index: u32) -> Step {
        let value = self.stack.last().ok_or("its stack is empty")?.clone();
        self.memo.insert(index, value);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Step {
        let value =
            self.memo.get(&index).ok_or_else(|| format!("nothing was stored as {index}"))?.clone();
        self.stack.push(value);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Step {
        let global = global(module, name).ok_or_else(|| {
            format!(
                "it asks for `{module}.{name}`, which no file of plain weights needs; nothing of \
                 it was executed"
            )
        })?;
        self.stack.push(Value::Global(global));
        Ok(())
    }

    /// ('storage', storage type, key, location, number of elements).
    fn persistent(&mut self) -> Step {
        let Value::Tuple(tuple) = self.pop()? else {
            return Err("a persistent id that is no tuple".to_owned());
        };
        let [
            Value::Text(tag),
            Value::Global(Global::Storage(kind)),
            Value::Text(key),
            _,
            Value::Int(_),
        ] = &self.tuples[tuple][..]
        else {
            return Err("a persistent id that names no storage".to_owned());
        };
        if &**tag != "storage" {
            return Err(format!("a persistent id of type `{tag}`"));
        }
        let storage = Value::Storage { key: key.clone(), kind: *kind };
        self.stack.push(storage);
        Ok(())
    }

    fn reduce(&mut self) -> Step {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Value::Tuple(arguments), Value::Global(function)) = (arguments, function) else {
            return Err("a call that is none".to_owned());
        };
        let arguments = self.tuples[arguments].clone();
        match (function, &arguments[..]) {
            (Global::OrderedDict, []) => self.dict(),
            (Global::RebuildParameter, [tensor @ Value::Tensor(_), ..]) => {
                self.stack.push(tensor.clone())
            }
            (
                Global::RebuildTensor,
                [
                    Value::Storage { key, kind },
                    Value::Int(offset),
                    Value::Tuple(shape),
                    Value::Tuple(strides),
                    ..,
                ],
            ) => {
                let tensor = TensorRecord {
                    storage: key.clone(),
                    kind: *kind,
                    offset: usize::try_from(*offset).map_err(|_| "a negative offset")?,
                    shape: self.sizes(*shape)?,
                    strides: self.sizes(*strides)?,
                };
                if tensor.shape.len() != tensor.strides.len() {
                    return Err("a tensor whose shape and strides differ in length".to_owned());
                }
                self.stack.push(Value::Tensor(Rc::new(tensor)));
            }
            (function, _) => {
                return Err(format!(
                    "`{function:?}` with arguments that torch.save does not write"
                ));
            }
        }
        Ok(())
    }

    fn sizes(&self, tuple: usize) -> Step<Vec<usize>> {
        let items = &self.tuples[tuple];
        if items.len() > MOST_DIMENSIONS {
            return Err(format!("a tensor of {} dimensions", items.len()));
        }
        let size = |item: &Value| match item {
            Value::Int(size) => usize::try_from(*size).map_err(|_| "a negative size".to_owned()),
            _ => Err("a size that is no number".to_owned()),
        };
        items.iter().map(size).collect()
    }

    /// The state of an object; that of a dict (its versions) is of no use to us.
    fn build(&mut self) -> Step {
        self.pop()?;
        match self.stack.last() {
            Some(Value::Dict(_)) => Ok(()),
            _ => Err("state for something that is no dict".to_owned()),
        }
    }
}
