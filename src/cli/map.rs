//! `sterna map`: named fields, each a register or a counter, that every region changes.

use std::io::Write;

use clap::{Args, Subcommand};

use super::client::{Blob, FieldEntry, Fields};
use super::key::Spot;
use super::options::{Freshness, Lifetime, SessionArgs};
use super::set::size;
use super::{Failure, Verdict};

/// Fields asked for at once.
const PAGE_FIELDS: usize = 1000;

/// Read, put, add to, or remove the fields of a map.
///
/// Fields change one by one: of two values put into one field at the same time in two regions the later one is
/// shown, additions are summed up, and a change wins over a remove.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  sterna map put user:1 name Ada city London
  sterna map add user:1 visits 1 --idempotency-key visit-4711
  sterna map get user:1 name
  sterna map fields user:1 --json
  sterna map remove user:1 city
  sterna map clear user:1")]
pub struct MapArgs {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Subcommand, Clone, Debug)]
enum Deed {
    /// Print the value of a field as it is, or the number of a counter; exit code 1 if there is no field
    Get {
        #[command(flatten)]
        spot: Spot,
        #[command(flatten)]
        fresh: Freshness,
        /// The field
        #[arg(value_name = "FIELD")]
        field: String,
    },
    /// Set fields
    Put {
        #[command(flatten)]
        spot: Spot,
        #[command(flatten)]
        session: SessionArgs,
        #[command(flatten)]
        life: Lifetime,
        /// FIELD VALUE, as many pairs as you like; values are text
        #[arg(
            value_name = "FIELD VALUE",
            required = true,
            allow_negative_numbers = true
        )]
        pairs: Vec<String>,
    },
    /// Add a whole number, perhaps negative, to a counter field
    Add {
        #[command(flatten)]
        spot: Spot,
        #[command(flatten)]
        session: SessionArgs,
        /// A name for this addition, 1 to 255 visible characters: tried again under it, it counts once
        #[arg(long, value_name = "ID")]
        idempotency_key: Option<String>,
        /// The field
        #[arg(value_name = "FIELD")]
        field: String,
        /// What to add
        #[arg(value_name = "N", allow_negative_numbers = true)]
        delta: i64,
    },
    /// Remove fields, as far as the node observes them
    Remove {
        #[command(flatten)]
        spot: Spot,
        #[command(flatten)]
        session: SessionArgs,
        /// The fields
        #[arg(value_name = "FIELD", required = true)]
        fields: Vec<String>,
    },
    /// List the fields, each a line of name, tab, and value or number
    #[command(visible_alias = "list")]
    Fields {
        #[command(flatten)]
        spot: Spot,
        #[command(flatten)]
        fresh: Freshness,
    },
    /// Say how many fields there are, as one replica counts them
    Size {
        #[command(flatten)]
        spot: Spot,
        #[command(flatten)]
        fresh: Freshness,
    },
    /// Delete the whole map, as far as the node observes it
    Clear {
        #[command(flatten)]
        spot: Spot,
        #[command(flatten)]
        session: SessionArgs,
    },
}

impl MapArgs {
    /// Runs the command.
    pub async fn run(&self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        match &self.deed {
            Deed::Get { spot, fresh, field } => get(out, spot, fresh, field).await,
            Deed::Put {
                spot,
                session,
                life,
                pairs,
            } => {
                let client = life.of(session.of(spot.client()?)?)?;
                let change = Fields {
                    put: registers(spot, pairs)?,
                    ..Fields::default()
                };
                let key = spot.key()?;
                let stamp = client.map_change(spot.keyspace(), &key, &change);
                spot.wrote(out, &stamp.await?, session)
            }
            Deed::Add {
                spot,
                session,
                idempotency_key,
                field,
                delta,
            } => {
                let client = session.of(spot.client()?)?;
                let client = client.with_header("idempotency-key", idempotency_key.as_ref())?;
                let change = Fields {
                    add: vec![(Blob(spot.name(field)?), *delta)],
                    ..Fields::default()
                };
                let key = spot.key()?;
                let stamp = client.map_change(spot.keyspace(), &key, &change);
                spot.wrote(out, &stamp.await?, session)
            }
            Deed::Remove {
                spot,
                session,
                fields,
            } => {
                let client = session.of(spot.client()?)?;
                let change = Fields {
                    remove: spot.names(fields)?,
                    ..Fields::default()
                };
                let key = spot.key()?;
                let stamp = client.map_change(spot.keyspace(), &key, &change);
                spot.wrote(out, &stamp.await?, session)
            }
            Deed::Fields { spot, fresh } => fields(out, spot, fresh).await,
            Deed::Size { spot, fresh } => size(out, "map", spot, fresh).await,
            Deed::Clear { spot, session } => {
                let client = session.of(spot.client()?)?;
                let key = spot.key()?;
                let stamp = client.clear("map", spot.keyspace(), &key);
                spot.wrote(out, &stamp.await?, session)
            }
        }
    }
}

fn registers(spot: &Spot, words: &[String]) -> Result<Vec<(Blob, Blob)>, Failure> {
    let (pairs, rest) = words.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Failure::usage(
            "write `sterna map put KEY FIELD VALUE`, and further pairs of FIELD VALUE",
        ));
    }
    let pair = |[field, value]: &[String; 2]| {
        let value = Blob(value.clone().into());
        Ok((Blob(spot.name(field)?), value))
    };
    pairs.iter().map(pair).collect()
}

async fn get(
    out: &mut dyn Write,
    spot: &Spot,
    fresh: &Freshness,
    field: &str,
) -> Result<Verdict, Failure> {
    let (client, name) = (fresh.of(spot.client()?)?, spot.name(field)?);
    let key = spot.key()?;
    let told = client.map_field(spot.keyspace(), &key, &name);
    let Some(told) = told.await? else {
        return Err(spot.lacks(&format!("field `{field}`")));
    };
    let entry = told.answer;
    if spot.json {
        write_json(out, &entry)?;
    } else if let Some(value) = &entry.value {
        out.write_all(&value.0)?;
    } else if let Some(counter) = entry.counter {
        writeln!(out, "{counter}")?;
    }
    fresh.session.tell(told.session.as_ref())?;
    Ok(Verdict::Good)
}

async fn fields(out: &mut dyn Write, spot: &Spot, fresh: &Freshness) -> Result<Verdict, Failure> {
    let (client, key) = (fresh.of(spot.client()?)?, spot.key()?);
    let mut after = None;
    loop {
        let page = client.map_page(spot.keyspace(), &key, PAGE_FIELDS, after.as_deref());
        let page = page.await?;
        for entry in &page.answer.fields {
            if spot.json {
                write_json(out, entry)?;
            } else {
                write_field(out, entry)?;
            }
        }
        after = page.answer.next;
        if after.is_none() {
            fresh.session.tell(page.session.as_ref())?;
            return Ok(Verdict::Good);
        }
    }
}

/// As it came: a counter may be beyond what a JSON value in memory holds.
fn write_json(out: &mut dyn Write, entry: &FieldEntry) -> Result<(), Failure> {
    let line = serde_json::to_string(entry).map_err(std::io::Error::from)?;
    writeln!(out, "{line}")?;
    Ok(())
}

fn write_field(out: &mut dyn Write, entry: &FieldEntry) -> Result<(), Failure> {
    out.write_all(&entry.field.0)?;
    out.write_all(b"\t")?;
    if let Some(value) = &entry.value {
        out.write_all(&value.0)?;
    } else if let Some(counter) = entry.counter {
        out.write_all(counter.to_string().as_bytes())?;
    }
    out.write_all(b"\n")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, run};

    #[tokio::test]
    async fn fields_are_put_added_to_listed_and_removed() {
        let fake = Fake::start(&[("eu", 1)]).await;
        for (words, wanted) in [
            ("map put user name Ada age -1 --ttl 90s", ""),
            ("map get user name", "Ada"),
            ("map add user visits 2 --idempotency-key a", ""),
            ("map add user visits 2 --idempotency-key a", ""),
            ("map get user visits", "2\n"),
            (
                "map get user visits --json",
                "{\"field\":\"visits\",\"counter\":2}\n",
            ),
            ("map fields user", "visits\t2\nage\t-1\nname\tAda\n"),
            ("map size user", "3\n"),
            ("map remove user age visits", ""),
            (
                "map fields user --json",
                "{\"field\":\"name\",\"value\":\"Ada\"}\n",
            ),
            ("map clear user", ""),
            ("map fields user", ""),
        ] {
            assert_eq!(run(&fake, words).await.unwrap(), wanted, "{words}");
        }
        let error = run(&fake, "map get user name").await.unwrap_err();
        let wanted = "no field `name` in `user` of keyspace `default`";
        assert_eq!(error.to_string(), wanted);
        let error = run(&fake, "map put user name").await.unwrap_err();
        assert!(error.to_string().contains("FIELD VALUE"), "{error}");
    }
}
