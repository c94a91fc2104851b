//! Sends batches of records, and tries again what may be tried again.

use std::time::Duration;

use tokio::time::Instant;

use super::super::client::{Blob, Client, Error, Fate, Put, fate_of};
use super::source::Defect;

/// The first pause before trying again; each later one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// One record on its way.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    /// Its number in the file.
    pub(super) number: u64,
    /// Bytes of the file up to its end.
    pub(super) bytes: u64,
    /// What to write.
    pub(super) put: Put,
}

/// What became of a record.
#[derive(Debug)]
pub(super) struct Settled {
    /// Its number in the file.
    pub(super) number: u64,
    /// Bytes of the file up to its end.
    pub(super) bytes: u64,
    /// Bytes of key and value.
    pub(super) size: usize,
    /// What is wrong, if it was refused.
    pub(super) defect: Option<Defect>,
}

/// Sends a batch until every record is written or refused. Fails if the cluster takes nothing for
/// `patience`: then none of what is left is settled.
pub(super) async fn send(
    client: &Client,
    keyspace: &str,
    mut parcels: Vec<Parcel>,
    patience: Duration,
) -> Result<Vec<Settled>, Error> {
    let mut settled = Vec::with_capacity(parcels.len());
    let mut pause = PAUSE_MIN;
    let mut until = Instant::now() + patience;
    loop {
        let puts: Vec<Put> = parcels.iter().map(|parcel| parcel.put.clone()).collect();
        let before = settled.len();
        let failure = match client.put_batch(keyspace, &puts).await {
            Ok(results) => {
                let mut left = Vec::new();
                let mut failure = None;
                for (parcel, result) in parcels.into_iter().zip(results) {
                    match result.error.filter(|_| result.status >= 300) {
                        None => settled.push(parcel.settled(None)),
                        Some(problem) if fate_of(&problem.code) == Fate::Refused => {
                            settled.push(parcel.settled(Some(problem.message)));
                        }
                        Some(problem) => {
                            failure = Some(Error::Server {
                                status: result.status,
                                code: problem.code,
                                message: problem.message,
                            });
                            left.push(parcel);
                        }
                    }
                }
                parcels = left;
                failure
            }
            Err(error) if error.fate() == Fate::Refused => return Err(error),
            Err(error) => Some(error),
        };
        let Some(failure) = failure else {
            return Ok(settled);
        };
        if settled.len() > before {
            until = Instant::now() + patience;
            pause = PAUSE_MIN;
        } else if Instant::now() > until {
            return Err(failure);
        }
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

impl Parcel {
    fn settled(self, reason: Option<String>) -> Settled {
        let Put {
            key: Blob(key),
            value: Blob(value),
        } = &self.put;
        Settled {
            number: self.number,
            bytes: self.bytes,
            size: key.len() + value.len(),
            defect: reason.map(|reason| Defect {
                reason,
                excerpt: String::from_utf8_lossy(key).into_owned(),
            }),
        }
    }
}
