//! What is being fetched right now, by digest: whoever wants the same blob meanwhile joins in.
//!
//! A flight is a task of its own. It goes on as long as somebody holds a ticket, and what it brought stays to be had that
//! long, too: until the last pull that needs it has recorded its image.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::layer::Landed;
use super::progress::BlobProgress;
use crate::error::{Error, Reason, Result};

/// Outcome of a flight, once it is there.
type Outcome = Option<Result<Arc<Landed>>>;

/// All flights of the agent. Clones share them.
#[derive(Debug, Clone, Default)]
pub(in crate::images) struct Flights(Arc<Mutex<HashMap<String, Arc<Flight>>>>);

#[derive(Debug)]
struct Flight {
    progress: Arc<BlobProgress>,
    outcome: watch::Receiver<Outcome>,
    cancel: CancellationToken,
    /// Changed with the table locked.
    tickets: Mutex<usize>,
}

/// The right to a blob's part. Whoever wants the blob meanwhile waits.
#[derive(Debug)]
pub(super) struct Claim {
    flights: Flights,
    digest: String,
    done: watch::Sender<Outcome>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.done.send_replace(Some(Err(cancelled())));
        self.flights.leave(&self.digest);
    }
}

/// A share in a flight.
#[derive(Debug)]
pub(super) struct Ticket {
    flights: Flights,
    digest: String,
    flight: Arc<Flight>,
    /// Whether this one began it.
    pub(super) first: bool,
}

impl Flights {
    fn table(&self) -> MutexGuard<'_, HashMap<String, Arc<Flight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps flights of a blob from beginning, unless there is one.
    pub(super) fn claim(&self, digest: &str) -> Option<Claim> {
        let mut table = self.table();
        if table.contains_key(digest) {
            return None;
        }
        let (done, outcome) = watch::channel(None);
        // For others it is a flight that nobody wants any more.
        let cancel = CancellationToken::new();
        cancel.cancel();
        let flight = Flight { progress: Arc::default(), outcome, cancel, tickets: Mutex::new(0) };
        table.insert(digest.to_owned(), Arc::new(flight));
        Some(Claim { flights: self.clone(), digest: digest.to_owned(), done })
    }

    /// Whether a blob is being fetched, or was and is about to be kept.
    pub(super) fn has(&self, digest: &str) -> bool {
        self.table().contains_key(digest)
    }

    /// Joins the flight of a blob, or begins it with what `fly` makes.
    pub(super) async fn board<F>(&self, digest: &str, fly: impl Fn(Arc<BlobProgress>) -> F) -> Ticket
    where
        F: Future<Output = Result<Landed>> + Send + 'static,
    {
        loop {
            let leaving = match self.try_board(digest, &fly) {
                Ok(ticket) => return ticket,
                Err(leaving) => leaving,
            };
            // Nobody wanted it any more; it ends soon, and only then is its file free.
            let _ = leaving.outcome.clone().wait_for(Option::is_some).await;
            self.leave(digest);
        }
    }

    fn try_board<F>(&self, digest: &str, fly: &impl Fn(Arc<BlobProgress>) -> F) -> Result<Ticket, Arc<Flight>>
    where
        F: Future<Output = Result<Landed>> + Send + 'static,
    {
        let mut table = self.table();
        let ticket = |flight: &Arc<Flight>, first| {
            let (digest, flight) = (digest.to_owned(), Arc::clone(flight));
            Ticket { flights: self.clone(), digest, flight, first }
        };
        if let Some(flight) = table.get(digest) {
            if flight.cancel.is_cancelled() {
                return Err(Arc::clone(flight));
            }
            *flight.tickets() += 1;
            return Ok(ticket(flight, false));
        }
        let progress = Arc::new(BlobProgress::default());
        let (done, outcome) = watch::channel(None);
        let cancel = CancellationToken::new();
        let work = fly(Arc::clone(&progress));
        let (given_up, flights, name) = (cancel.clone(), self.clone(), digest.to_owned());
        tokio::spawn(async move {
            let landed = tokio::select! {
                landed = work => landed,
                () = given_up.cancelled() => Err(cancelled()),
            };
            done.send_replace(Some(landed.map(Arc::new)));
            flights.leave(&name);
        });
        let flight = Arc::new(Flight { progress, outcome, cancel, tickets: Mutex::new(1) });
        table.insert(digest.to_owned(), Arc::clone(&flight));
        Ok(ticket(&flight, true))
    }

    /// Takes a flight off the table that has ended and that nobody wants any more.
    fn leave(&self, digest: &str) {
        let mut table = self.table();
        let over = |flight: &Arc<Flight>| flight.outcome.borrow().is_some() && *flight.tickets() == 0;
        if table.get(digest).is_some_and(over) {
            table.remove(digest);
        }
    }
}

/// The error of a pull that nobody waits for.
pub(super) fn cancelled() -> Error {
    Error::new(Reason::DeadlineExceeded, "the pull was cancelled")
}

impl Flight {
    fn tickets(&self) -> MutexGuard<'_, usize> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    pub(super) fn progress(&self) -> &Arc<BlobProgress> {
        &self.flight.progress
    }

    /// What a flight brought that has ended.
    pub(super) fn brought(&self) -> Result<Arc<Landed>> {
        let outcome = self.flight.outcome.borrow().clone();
        outcome.unwrap_or_else(|| Err(Error::new(Reason::Internal, "a fetch has not ended")))
    }

    /// Waits for the flight's end.
    pub(super) async fn landed(&self) -> Result<Arc<Landed>> {
        let mut outcome = self.flight.outcome.clone();
        let gone = || Error::new(Reason::Internal, "a fetch ended without an outcome");
        let outcome = outcome.wait_for(Option::is_some).await.map_err(|_| gone())?;
        outcome.clone().unwrap_or_else(|| Err(gone()))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        {
            let _table = self.flights.table();
            let mut tickets = self.flight.tickets();
            *tickets -= 1;
            if *tickets > 0 {
                return;
            }
            self.flight.cancel.cancel();
        }
        // One that is still under way stays on the table until it has let go of its file.
        self.flights.leave(&self.digest);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::images::pull::layer::Wanted;

    fn wanted() -> Wanted {
        Wanted { digest: "sha256:x".into(), size: 0, is_layer: false }
    }

    /// Counts flights that begin; each waits until it is let go.
    struct Airport {
        begun: Arc<AtomicUsize>,
        open: watch::Sender<bool>,
    }

    impl Airport {
        fn new() -> Self {
            Self { begun: Arc::default(), open: watch::channel(false).0 }
        }

        async fn board(&self, flights: &Flights) -> Ticket {
            let fly = |_| {
                let (begun, mut open) = (Arc::clone(&self.begun), self.open.subscribe());
                async move {
                    begun.fetch_add(1, Ordering::Relaxed);
                    open.wait_for(|open| *open).await.unwrap();
                    Ok(Landed::new(wanted(), None, None))
                }
            };
            flights.board("x", fly).await
        }

        fn begun(&self) -> usize {
            self.begun.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn one_flight_serves_all_who_want_the_blob() {
        let (flights, airport) = (Flights::default(), Airport::new());
        let (one, two) = (airport.board(&flights).await, airport.board(&flights).await);
        assert!(one.first && !two.first);
        drop(one);
        airport.open.send_replace(true);
        two.landed().await.unwrap();
        let three = airport.board(&flights).await;
        three.landed().await.unwrap();
        assert_eq!(airport.begun(), 1, "what landed is to be had while somebody holds a ticket");
        drop((two, three));
        assert!(!flights.has("x"));
        airport.board(&flights).await.landed().await.unwrap();
        assert_eq!(airport.begun(), 2);
    }

    #[tokio::test]
    async fn a_flight_that_nobody_wants_ends_and_makes_room_for_the_next() {
        let (flights, airport) = (Flights::default(), Airport::new());
        drop(airport.board(&flights).await);
        let again = airport.board(&flights).await;
        assert!(again.first);
        airport.open.send_replace(true);
        again.landed().await.unwrap();
        drop(again);
        assert!(!flights.has("x"));
    }

    #[tokio::test]
    async fn a_claim_keeps_flights_on_the_ground() {
        let (flights, airport) = (Flights::default(), Airport::new());
        airport.open.send_replace(true);
        let claim = flights.claim("x").unwrap();
        assert!(flights.claim("x").is_none());
        let boarding = airport.board(&flights);
        tokio::pin!(boarding);
        let early = std::future::poll_fn(|context| std::task::Poll::Ready(boarding.as_mut().poll(context).is_ready()));
        assert!(!early.await);
        drop(claim);
        let ticket = boarding.await;
        assert!(flights.claim("x").is_none());
        ticket.landed().await.unwrap();
    }
}
