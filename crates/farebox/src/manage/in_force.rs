//! What is in force in the farebox that runs, as its API tells it. Hashes of keys it tells nobody.

use std::{collections::BTreeMap, fmt::Display};

use farebox_admin::v1::{
    self as admin, budget_service_client::BudgetServiceClient, config_service_client::ConfigServiceClient,
    group_service_client::GroupServiceClient, key_service_client::KeyServiceClient,
    limit_service_client::LimitServiceClient, organisation_service_client::OrganisationServiceClient,
    project_service_client::ProjectServiceClient,
};
use farebox_directory::Entity;
use farebox_policy::{Key, KeyId, Policies};
use farebox_types::{ErrorKind, Fault};

use super::{
    connect::{Access, patient},
    entity::{Service, every},
    key,
    refusal::failure_of,
};
use crate::agent::Failure;

/// The config as YAML, and the rules: its own and those that were made while it ran.
pub(crate) async fn in_force(access: &Access) -> Result<(String, Policies), Failure> {
    let road = access.connect().await?;
    let read = ConfigServiceClient::new(road.clone()).read_config(patient(admin::ReadConfigRequest {})).await;
    let config = read.map_err(failure_of)?.into_inner().effective;
    let mut keys: BTreeMap<KeyId, Key> = BTreeMap::new();
    let all = admin::ListKeysRequest { include_ended: true, ..Default::default() };
    for mut entity in
        key::every(&KeyServiceClient::new(road.clone()), &all).await?.into_iter().flat_map(|kept| kept.key)
    {
        entity.hash = vec![0; 32].into();
        let key: Key = rule(&entity)?;
        keys.insert(key.id.clone(), key);
    }
    let policies = Policies {
        organisations: rules(OrganisationServiceClient::new(road.clone())).await?,
        projects: rules(ProjectServiceClient::new(road.clone())).await?,
        groups: rules(GroupServiceClient::new(road.clone())).await?,
        keys,
        budgets: rules(BudgetServiceClient::new(road.clone())).await?,
        limits: rules(LimitServiceClient::new(road)).await?,
    };
    Ok((config, policies))
}

async fn rules<S: Service, R>(service: S) -> Result<BTreeMap<String, R>, Failure>
where
    R: for<'a> TryFrom<&'a S::Entity, Error: Display>,
{
    let named = |record| {
        let (entity, _) = S::open(record);
        Ok((entity.name().to_owned(), rule(&entity)?))
    };
    every(&service).await?.iter().map(named).collect()
}

fn rule<E: Entity, R>(entity: &E) -> Result<R, Failure>
where
    R: for<'a> TryFrom<&'a E, Error: Display>,
{
    R::try_from(entity).map_err(|error| {
        let message = format!("the {} `{}` cannot be read: {error}", E::KIND, entity.name());
        Failure::Refused(Fault::new(ErrorKind::Internal, message))
    })
}
