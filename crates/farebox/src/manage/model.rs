//! `farebox model`: what callers may ask for, where it is served, how well, and at what price.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use farebox_admin::v1::{self as admin, deployment_health::State, model_service_client::ModelServiceClient};
use farebox_proto::v1;
use farebox_types::Money;

use super::{
    connect::{AdminArgs, patient},
    desk::{Desk, all},
    refusal::failure_of,
};
use crate::agent::{Align, Failure};

/// Shows models, the health of their deployments, and prices in force
#[derive(Args, Clone, Debug)]
pub(crate) struct ModelArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Lists models and where they are served
    List,
    /// Shows all about a model
    Show { name: String },
    /// Lists prices in force, in US dollars for a million tokens
    Prices {
        /// Everything that this provider is known to serve [default: the deployments of the config]
        #[arg(long, default_value = "")]
        provider: String,
    },
}

impl ModelArgs {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        Desk::with(self.admin, async |desk: &mut Desk| Box::pin(self.what.attempt(desk)).await).await
    }
}

impl What {
    async fn attempt(self, desk: &mut Desk) -> Result<(), Failure> {
        let mut models = ModelServiceClient::new(desk.road.clone());
        match self {
            What::List => {
                let found = all(|page_token| {
                    let mut models = models.clone();
                    let request = admin::ListModelsRequest { page_size: 0, page_token };
                    async move {
                        let page = models.list_models(patient(request)).await?.into_inner();
                        Ok((page.models, page.next_page_token))
                    }
                })
                .await?;
                list(desk, &found)
            }
            What::Show { name } => {
                let found = models.get_model(patient(admin::GetModelRequest { name })).await.map_err(failure_of)?;
                desk.detail("Model", found.get_ref())
            }
            What::Prices { provider } => {
                let found = all(|page_token| {
                    let mut models = models.clone();
                    let provider = provider.clone();
                    let request = admin::ListPricesRequest { provider, at_unix_ms: 0, page_size: 0, page_token };
                    async move {
                        let page = models.list_prices(patient(request)).await?.into_inner();
                        Ok((page.prices, page.next_page_token))
                    }
                })
                .await?;
                prices(desk, &found)
            }
        }
    }
}

fn list(desk: &mut Desk, models: &[admin::Model]) -> Result<(), Failure> {
    const COLUMNS: [(&str, Align); 4] =
        [("MODEL", Align::Left), ("SERVED BY", Align::Left), ("HEALTH", Align::Left), ("FALLBACK", Align::Left)];
    desk.list("Model", models, &COLUMNS, |model| {
        let served = model.deployments.iter().map(|d| format!("{}/{}", d.provider, d.upstream_model));
        let health = model.deployments.iter().map(|deployment| {
            match deployment.health.map(|health| health.state()).unwrap_or_default() {
                State::Unspecified => "-",
                State::Healthy => "healthy",
                State::Degraded => "degraded",
                State::Failing => "failing",
            }
        });
        vec![
            model.name.clone(),
            served.collect::<Vec<_>>().join(", "),
            health.collect::<Vec<_>>().join(", "),
            model.fallback.join(", "),
        ]
    })
}

fn prices(desk: &mut Desk, prices: &[admin::Price]) -> Result<(), Failure> {
    const COLUMNS: [(&str, Align); 6] = [
        ("PROVIDER", Align::Left),
        ("MODEL", Align::Left),
        ("INPUT $", Align::Right),
        ("OUTPUT $", Align::Right),
        ("CACHE READ $", Align::Right),
        ("VERSION", Align::Left),
    ];
    let shown = |rate: Option<i64>| {
        rate.map_or_else(|| "unknown".to_owned(), |picos| Money::from_picos(i128::from(picos)).to_string())
    };
    desk.list("Price", prices, &COLUMNS, |price| {
        let rates: Option<v1::Rates> = price.rates;
        vec![
            price.provider.clone(),
            price.upstream_model.clone(),
            shown(rates.map(|rates| rates.input)),
            shown(rates.map(|rates| rates.output)),
            shown(rates.map(|rates| rates.cache_read)),
            price.price_version.clone(),
        ]
    })
}
