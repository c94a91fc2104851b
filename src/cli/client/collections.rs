//! Counters, sets, maps, conflicts, and waiting for a session: one method for each thing to ask.

use bytes::Bytes;
use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::forms::{self, ConflictPage, FieldEntry, FieldPage, Fields, MemberPage, Members, Told};
use super::{Client, Error, Stamp, path_of, segment, stamp};

/// The path with parameters, of those that are given.
fn with(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let given = parameters
        .iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)));
    let pairs: Vec<String> = given
        .map(|(name, value)| format!("{name}={}", segment(value.as_bytes())))
        .collect();
    if pairs.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", pairs.join("&"))
    }
}

impl Client {
    /// The value of a counter, a sum of shares of 64 bits each.
    pub async fn counter(&self, keyspace: &str, key: &[u8]) -> Result<Told<i128>, Error> {
        let path = path_of("counter", keyspace, key);
        let told: Told<forms::Value> = self.told(&path).await?;
        Ok(told.map(|form| form.value))
    }

    /// Adds to a counter.
    pub async fn counter_add(
        &self,
        keyspace: &str,
        key: &[u8],
        delta: i64,
    ) -> Result<Stamp, Error> {
        let path = path_of("counter", keyspace, key);
        self.change(&path, &json!({ "add": delta })).await
    }

    /// Deletes a counter, set or map (`kind`), as far as it was observed.
    pub async fn clear(&self, kind: &str, keyspace: &str, key: &[u8]) -> Result<Stamp, Error> {
        let path = path_of(kind, keyspace, key);
        let reply = self.send(Method::DELETE, &path, Bytes::new()).await?;
        Ok(stamp(&self.checked(reply)?.headers))
    }

    /// Adds members to a set, and removes some.
    pub async fn set_change(
        &self,
        keyspace: &str,
        key: &[u8],
        change: &Members,
    ) -> Result<Stamp, Error> {
        self.change(&path_of("set", keyspace, key), change).await
    }

    /// A page of the members of a set.
    pub async fn set_page(
        &self,
        keyspace: &str,
        key: &[u8],
        limit: usize,
        after: Option<&str>,
    ) -> Result<Told<MemberPage>, Error> {
        let path = path_of("set", keyspace, key);
        let limit = limit.to_string();
        let path = with(&path, &[("limit", Some(&limit)), ("after", after)]);
        self.told(&path).await
    }

    /// Whether a set has a member.
    pub async fn set_has(
        &self,
        keyspace: &str,
        key: &[u8],
        member: &[u8],
    ) -> Result<Told<bool>, Error> {
        let path = path_of("set", keyspace, key);
        let path = format!("{path}?member={}", segment(member));
        let told: Told<forms::IsMember> = self.told(&path).await?;
        Ok(told.map(|form| form.is_member))
    }

    /// How many members a set, or fields a map (`kind`) has, as one replica counts them.
    pub async fn size(&self, kind: &str, keyspace: &str, key: &[u8]) -> Result<Told<u64>, Error> {
        let path = path_of(kind, keyspace, key);
        let path = with(&path, &[("size", Some("true"))]);
        let told: Told<forms::Size> = self.told(&path).await?;
        Ok(told.map(|form| form.size))
    }

    /// Puts, adds to and removes fields of a map.
    pub async fn map_change(
        &self,
        keyspace: &str,
        key: &[u8],
        change: &Fields,
    ) -> Result<Stamp, Error> {
        self.change(&path_of("map", keyspace, key), change).await
    }

    /// A page of the fields of a map.
    pub async fn map_page(
        &self,
        keyspace: &str,
        key: &[u8],
        limit: usize,
        after: Option<&str>,
    ) -> Result<Told<FieldPage>, Error> {
        let path = path_of("map", keyspace, key);
        let limit = limit.to_string();
        let path = with(&path, &[("limit", Some(&limit)), ("after", after)]);
        self.told(&path).await
    }

    /// A field of a map; nothing if it is absent.
    pub async fn map_field(
        &self,
        keyspace: &str,
        key: &[u8],
        field: &[u8],
    ) -> Result<Option<Told<FieldEntry>>, Error> {
        let path = path_of("map", keyspace, key);
        let path = format!("{path}?field={}", segment(field));
        match self.told(&path).await {
            Ok(told) => Ok(Some(told)),
            Err(error) if error.is_code("absent") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until a region (or `all`) has what the client's session has seen.
    pub async fn wait(&self, region: &str) -> Result<(), Error> {
        let path = with("/v1/wait", &[("region", Some(region))]);
        self.ask::<forms::Reached>(&path).await.map(|_| ())
    }

    /// A page of the versions of a keyspace that lost to ones written at the same time.
    pub async fn conflicts(
        &self,
        keyspace: &str,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<ConflictPage, Error> {
        let path = format!("/v1/conflicts/{}", segment(keyspace.as_bytes()));
        let limit = limit.to_string();
        let path = with(&path, &[("limit", Some(&limit)), ("cursor", cursor)]);
        let page: ConflictPage = self.ask(&path).await?;
        self.leads_on(cursor, page.next.as_deref())?;
        Ok(page)
    }

    async fn change<T: Serialize + Sync>(&self, path: &str, body: &T) -> Result<Stamp, Error> {
        let reply = self.send(Method::POST, path, self.json(body)?).await?;
        Ok(stamp(&self.checked(reply)?.headers))
    }

    async fn told<T: DeserializeOwned>(&self, path: &str) -> Result<Told<T>, Error> {
        let reply = self.send(Method::GET, path, Bytes::new()).await?;
        let reply = self.checked(reply)?;
        Ok(Told {
            answer: self.parsed(&reply.body)?,
            session: stamp(&reply.headers).session,
        })
    }
}
