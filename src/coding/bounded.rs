//! Decoding within a limit of memory: lists, maps and bytes are charged for what they will take before they are read.
//!
//! A byte may stand for an element of hundreds: without a limit, a short message could name a list that fills the memory.
//! It wraps any deserializer and knows neither form nor types.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};

/// The bytes of memory that are left.
#[derive(Debug)]
pub(super) struct Memory {
    left: Cell<usize>,
    is_spent: Cell<bool>,
}

impl Memory {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            left: Cell::new(bytes),
            is_spent: Cell::new(false),
        }
    }

    /// What is left.
    pub(super) fn left(&self) -> usize {
        self.left.get()
    }

    /// Whether something was refused.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent.get()
    }

    fn charge<E: Error>(&self, bytes: usize) -> Result<(), E> {
        match self.left.get().checked_sub(bytes) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.is_spent.set(true);
                Err(E::custom("too much memory"))
            }
        }
    }
}

/// Anything of the deserializer's world, with the memory that it may take.
pub(super) struct Bounded<'m, T> {
    pub(super) inner: T,
    pub(super) memory: &'m Memory,
}

/// A visitor, and whether what it visits is a list of any length (and not the fields of a struct).
struct Visiting<'m, V> {
    visitor: V,
    memory: &'m Memory,
    is_list: bool,
}

struct Elements<'m, A> {
    access: A,
    memory: &'m Memory,
    is_list: bool,
}

impl<'m, T> Bounded<'m, T> {
    fn of<V>(&self, visitor: V, is_list: bool) -> Visiting<'m, V> {
        Visiting {
            visitor,
            memory: self.memory,
            is_list,
        }
    }
}

macro_rules! plain {
    ($($name:ident)*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.of(visitor, false);
            self.inner.$name(visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Bounded<'_, D> {
    type Error = D::Error;

    plain! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string deserialize_bytes
        deserialize_byte_buf deserialize_option deserialize_unit deserialize_identifier deserialize_ignored_any
        deserialize_map
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.of(visitor, true);
        self.inner.deserialize_seq(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.of(visitor, false);
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.of(visitor, false);
        self.inner.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.of(visitor, false);
        self.inner.deserialize_tuple(length, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.of(visitor, false);
        self.inner.deserialize_tuple_struct(name, length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.of(visitor, false);
        self.inner.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.of(visitor, false);
        self.inner.deserialize_enum(name, variants, visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! scalars {
    ($($name:ident: $type:ty,)*) => {$(
        fn $name<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.visitor.$name(value)
        }
    )*};
}

macro_rules! lengths {
    ($($name:ident: $type:ty,)*) => {$(
        fn $name<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.memory.charge(value.len())?;
            self.visitor.$name(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Visiting<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    scalars! {
        visit_bool: bool, visit_i8: i8, visit_i16: i16, visit_i32: i32, visit_i64: i64, visit_i128: i128,
        visit_u8: u8, visit_u16: u16, visit_u32: u32, visit_u64: u64, visit_u128: u128, visit_f32: f32,
        visit_f64: f64, visit_char: char,
    }

    lengths! {
        visit_str: &str, visit_borrowed_str: &'de str, visit_string: String, visit_bytes: &[u8],
        visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>,
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let memory = self.memory;
        self.visitor.visit_some(Bounded { inner, memory })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let memory = self.memory;
        self.visitor.visit_newtype_struct(Bounded { inner, memory })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_seq(Elements {
            access,
            memory: self.memory,
            is_list: self.is_list,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Elements {
            access,
            memory: self.memory,
            is_list: true,
        })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let memory = self.memory;
        self.visitor.visit_enum(Bounded { inner, memory })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        inner: T,
    ) -> Result<Option<T::Value>, A::Error> {
        let memory = self.memory;
        let element = self.access.next_element_seed(Bounded { inner, memory })?;
        if element.is_some() && self.is_list {
            memory.charge(size_of::<T::Value>())?;
        }
        Ok(element)
    }

    fn size_hint(&self) -> Option<usize> {
        self.access.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        inner: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let memory = self.memory;
        let key = self.access.next_key_seed(Bounded { inner, memory })?;
        if key.is_some() {
            memory.charge(size_of::<K::Value>())?;
        }
        Ok(key)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, inner: T) -> Result<T::Value, A::Error> {
        let memory = self.memory;
        memory.charge(size_of::<T::Value>())?;
        self.access.next_value_seed(Bounded { inner, memory })
    }

    fn size_hint(&self) -> Option<usize> {
        self.access.size_hint()
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Bounded<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<T::Value, D::Error> {
        let memory = self.memory;
        self.inner.deserialize(Bounded { inner, memory })
    }
}

impl<'de, 'm, A: EnumAccess<'de>> EnumAccess<'de> for Bounded<'m, A> {
    type Error = A::Error;
    type Variant = Bounded<'m, A::Variant>;

    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        inner: T,
    ) -> Result<(T::Value, Self::Variant), A::Error> {
        let memory = self.memory;
        let (value, inner) = self.inner.variant_seed(Bounded { inner, memory })?;
        Ok((value, Bounded { inner, memory }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, inner: T) -> Result<T::Value, A::Error> {
        let memory = self.memory;
        self.inner.newtype_variant_seed(Bounded { inner, memory })
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.of(visitor, false);
        self.inner.tuple_variant(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.of(visitor, false);
        self.inner.struct_variant(fields, visitor)
    }
}
