//! What callers may ask for, where it is served, how well, and at what price.

use std::{collections::BTreeMap, sync::Arc};

use farebox_providers::{Ask, Catalog};
use farebox_types::Timestamp;
use tonic::{Request, Response};

use crate::{
    api::{Answer, Api, Offers},
    paging::Page,
    refusal::Refusal,
    v1::{self, model_service_server::ModelService},
};

#[tonic::async_trait]
impl ModelService for Api {
    async fn get_model(&self, request: Request<v1::GetModelRequest>) -> Answer<v1::Model> {
        let name = &request.get_ref().name;
        let model = self.model(&self.offers().catalog, name);
        Ok(Response::new(model.ok_or_else(|| Refusal::not_found("model", name))?))
    }

    async fn list_models(&self, request: Request<v1::ListModelsRequest>) -> Answer<v1::ListModelsResponse> {
        let ask = request.into_inner();
        let (page, offers) = (Page::read(ask.page_size, &ask.page_token)?, self.offers());
        let names: Vec<&str> = offers.catalog.models().collect();
        let (names, next_page_token) = page.of(names, |name| (*name).to_owned());
        let models = names.into_iter().filter_map(|name| self.model(&offers.catalog, name)).collect();
        Ok(Response::new(v1::ListModelsResponse { models, next_page_token }))
    }

    async fn get_price(&self, request: Request<v1::GetPriceRequest>) -> Answer<v1::Price> {
        let (ask, offers) = (request.into_inner(), self.offers());
        let found = offers.prices.card(&ask.provider, &ask.upstream_model, self.time(ask.at_unix_ms), None);
        let priced =
            found.ok_or_else(|| Refusal::not_found("price", &format!("{}/{}", ask.provider, ask.upstream_model)))?;
        Ok(Response::new(v1::Price {
            provider: ask.provider,
            upstream_model: ask.upstream_model,
            rates: Some((*priced.card.standard()).into()),
            price_version: priced.version,
        }))
    }

    async fn list_prices(&self, request: Request<v1::ListPricesRequest>) -> Answer<v1::ListPricesResponse> {
        let ask = request.into_inner();
        let page = Page::read(ask.page_size, &ask.page_token)?;
        let mut prices = prices(&self.offers(), self.time(ask.at_unix_ms));
        prices.retain(|price| ask.provider.is_empty() || price.provider == ask.provider);
        let name = |price: &v1::Price| format!("{}/{}", price.provider, price.upstream_model);
        let (prices, next_page_token) = page.of(prices, name);
        Ok(Response::new(v1::ListPricesResponse { prices, next_page_token }))
    }
}

impl Api {
    fn offers(&self) -> Arc<Offers> {
        self.0.offers.borrow().clone()
    }

    fn time(&self, unix_ms: i64) -> Timestamp {
        if unix_ms == 0 { self.0.clock.now() } else { Timestamp(unix_ms) }
    }

    fn model(&self, catalog: &Catalog, name: &str) -> Option<v1::Model> {
        let (options, routing, now) = (catalog.model_options(name)?, catalog.routing(), self.0.clock.now());
        let routed = |map: &BTreeMap<String, String>| {
            map.iter().filter(|(_, model)| *model == name).map(|(word, _)| word.clone()).collect()
        };
        let deployments = options.deployments.iter().map(|deployment| v1::Deployment {
            provider: deployment.target.provider.clone(),
            upstream_model: deployment.target.model.clone(),
            health: Some(self.0.health.of(&deployment.target.provider, &deployment.target.model, now)),
            requests_per_minute: deployment.rpm.unwrap_or_default(),
            tokens_per_minute: deployment.tpm.unwrap_or_default(),
            concurrent: deployment.concurrent.unwrap_or_default(),
        });
        Some(v1::Model {
            name: name.to_owned(),
            deployments: deployments.collect(),
            fallback: options.fallback.clone(),
            tasks: routed(&routing.tasks),
            agents: routed(&routing.agents),
            default: routing.default.as_deref() == Some(name),
        })
    }
}

/// Those of the deployments, each once, in order of provider and model.
fn prices(offers: &Offers, at: Timestamp) -> Vec<v1::Price> {
    let Offers { catalog, prices } = offers;
    let deployments = catalog
        .models()
        .flat_map(|name| catalog.route(Ask::Model(name), &[], &mut |_| 0).unwrap_or_default())
        .map(|deployment| (format!("{}/{}", deployment.provider, deployment.model), deployment));
    let once: BTreeMap<_, _> = deployments.collect();
    let price = |deployment: farebox_providers::Deployment| {
        let found = prices.card(&deployment.prices, &deployment.priced_as, at, deployment.region.as_deref());
        let priced = found.or_else(|| deployment.free.then(|| prices.free(at)));
        v1::Price {
            provider: deployment.provider,
            upstream_model: deployment.model,
            rates: priced.map(|priced| (*priced.card.standard()).into()),
            price_version: prices.version().to_owned(),
        }
    };
    once.into_values().map(price).collect()
}
