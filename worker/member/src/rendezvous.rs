//! The rendezvous of one group, through the coordinator.

use std::time::Duration;

use polya_proto::v1::coordinator_client::CoordinatorClient;
use polya_proto::v1::{Group, StoreAddRequest, StoreGetRequest, StoreSetRequest};
use tokio::runtime::Handle;

use crate::connect::Authorized;
use crate::trainer::Rendezvous;

/// What an answer may take beyond the wait that was asked for.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Blocking calls over the worker's connection, from threads that are not the runtime's own.
pub(crate) struct RpcRendezvous {
    pub(crate) runtime: Handle,
    /// None: there was no connection when the group was formed.
    pub(crate) client: Option<CoordinatorClient<Authorized>>,
    pub(crate) group: Group,
}

impl RpcRendezvous {
    fn client(&self) -> Result<CoordinatorClient<Authorized>, String> {
        self.client.clone().ok_or_else(|| "no connection to the coordinator".to_owned())
    }

    fn wait<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, String> {
        let answer = self.runtime.block_on(async { tokio::time::timeout(limit, call).await });
        let answer = answer.map_err(|_| format!("the coordinator gave no answer in {limit:?}"))?;
        answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
    }
}

impl Rendezvous for RpcRendezvous {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), String> {
        let request = StoreSetRequest { group: Some(self.group), key: key.to_owned(), value: value.to_vec() };
        let mut client = self.client()?;
        self.wait(ANSWER_LIMIT, client.store_set(request)).map(|_| ())
    }

    fn get(&self, key: &str, wait_ms: u64) -> Result<Option<Vec<u8>>, String> {
        let request = StoreGetRequest { group: Some(self.group), key: key.to_owned(), wait_ms };
        let mut client = self.client()?;
        let reply = self.wait(ANSWER_LIMIT + Duration::from_millis(wait_ms), client.store_get(request))?;
        Ok(reply.found.then_some(reply.value))
    }

    fn add(&self, key: &str, amount: i64) -> Result<i64, String> {
        let request = StoreAddRequest { group: Some(self.group), key: key.to_owned(), amount };
        let mut client = self.client()?;
        self.wait(ANSWER_LIMIT, client.store_add(request)).map(|reply| reply.value)
    }
}
