//! `ops retry-notify`

use crate::{dead_letters, duration::Instant, watch::Watch};
use anyhow::{Context, ensure};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use shared::{
    config::DatabaseConfig,
    db,
    notify::{
        NotifyId, NotifyType, ProcessStatus,
        causes::causes,
        progress::given_back,
        retry::{By, Filter, can_be_retried, retry_all, retry_one},
        search,
    },
    orders::OrderNo,
    users::UserId,
};
use sqlx::PgPool;
use std::{
    io::{IsTerminal, stdin},
    process::ExitCode,
};
use tokio::signal::unix::{SignalKind, signal};

/// What a shell makes of a program that was interrupted.
const INTERRUPTED: u8 = 130;

/// Which notifications, how fast, and on whose behalf.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Those in this state
    #[arg(long, default_value = "dead", value_parser = retriable())]
    status: ProcessStatus,
    /// Those that came then or later: a time (RFC 3339), or so long ago, such as 2h
    #[arg(long)]
    since: Option<Instant>,
    /// Those that came before: a time, or so long ago
    #[arg(long)]
    until: Option<Instant>,
    /// Those of this family: payment or refund
    #[arg(long = "type", value_parser = family())]
    notify_type: Option<NotifyType>,
    /// Those that failed for this reason
    #[arg(long)]
    error_code: Option<String>,
    /// Those that name this order
    #[arg(long = "order")]
    order_no: Option<OrderNo>,
    /// This one alone
    #[arg(long, conflicts_with_all = ["status", "since", "until", "notify_type", "error_code", "order_no", "limit", "rate"])]
    id: Option<NotifyId>,
    /// The oldest so many, 1 to 100000
    #[arg(long, default_value_t = Filter::DEFAULT_LIMIT, value_parser = clap::value_parser!(i64).range(Filter::LIMITS))]
    limit: i64,
    /// Why, for the audit log
    #[arg(long)]
    reason: Option<String>,
    /// Who, for the audit log
    #[arg(long, default_value = "ops")]
    by: UserId,
    #[arg(
        long,
        help = "So many in a second, 1 to 10000 [default: NOTIFY_RETRY_PER_SECOND]",
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    rate: Option<u32>,
    /// Try the oldest one first, and the others only if it succeeds
    #[arg(long)]
    canary: bool,
    /// Only say what matches
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

fn retriable() -> impl TypedValueParser<Value = ProcessStatus> {
    let words = ProcessStatus::ALL.into_iter().filter(|status| can_be_retried(*status)).map(ProcessStatus::as_str);
    PossibleValuesParser::new(words).try_map(|word| word.parse::<ProcessStatus>())
}

fn family() -> impl TypedValueParser<Value = NotifyType> {
    PossibleValuesParser::new(NotifyType::ALL.map(NotifyType::as_str)).try_map(|word| word.parse::<NotifyType>())
}

/// What is to be tried again.
#[derive(Debug)]
struct Plan {
    /// How many.
    count: i64,
    /// The oldest of them.
    first: Option<NotifyId>,
    /// What an earlier retry has given back, and no worker has taken yet.
    waiting: Vec<NotifyId>,
}

/// Lets notifications be tried again, and watches them until they have come to an end.
pub async fn run(arguments: &Arguments, database: &DatabaseConfig, per_second: u32) -> anyhow::Result<ExitCode> {
    let db = db::pool(database, "recharge ops", 1);
    db::check_schema(&db).await?;
    let filter = arguments.filter();
    let plan = match arguments.id {
        Some(id) => plan_one(&db, id).await?,
        None => plan_many(&db, &filter).await.context("the notify log cannot be read")?,
    };
    let earlier = plan.waiting.len();
    let tell_earlier = || {
        if earlier > 0 {
            println!("{earlier} were given back earlier and wait for their turn");
        }
    };
    if arguments.dry_run || plan.count == 0 && earlier == 0 {
        tell_earlier();
        return Ok(ExitCode::SUCCESS);
    }
    if plan.count > 0 && !arguments.yes && !is_confirmed(plan.count)? {
        println!("nothing was done");
        return Ok(ExitCode::SUCCESS);
    }
    // From here on Ctrl-C ends the watching only; so it must be heard before anything is said that may be answered with it.
    let mut interrupt = signal(SignalKind::interrupt())?;
    tell_earlier();
    let mut watch = Watch::new();
    let rate = arguments.rate.unwrap_or(per_second);
    let all_tried = tokio::select! {
        all_tried = carry_out(&db, arguments, &filter, plan, rate, &mut watch) => all_tried?,
        _ = interrupt.recv() => {
            watch.end();
            eprintln!("not watched any more; {}", goes_on(&watch));
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    Ok(conclude(&watch, all_tried))
}

impl Arguments {
    fn filter(&self) -> Filter {
        Filter {
            status: self.status,
            notify_type: self.notify_type,
            error_code: self.error_code.clone(),
            order_no: self.order_no.clone(),
            from: self.since.map(|since| since.0),
            to: self.until.map(|until| until.0),
            limit: self.limit,
        }
    }
}

async fn plan_one(db: &PgPool, id: NotifyId) -> anyhow::Result<Plan> {
    let found = search::find(db, id).await.context("the notify log cannot be read")?;
    let entry = found.with_context(|| format!("there is no notification {id}"))?.entry;
    let code = entry.error_code.as_ref().map_or_else(String::new, |code| format!(" ({code})"));
    println!("{id} is {}{code}", entry.status.as_str());
    let waits = entry.status == ProcessStatus::Received && entry.error_code.is_some();
    let count = i64::from(can_be_retried(entry.status));
    Ok(Plan { count, first: Some(id), waiting: if waits { vec![id] } else { Vec::new() } })
}

async fn plan_many(db: &PgPool, filter: &Filter) -> sqlx::Result<Plan> {
    let causes = causes(db, filter).await?;
    let all: i64 = causes.iter().map(|cause| cause.notifications).sum();
    let first = causes.iter().map(|cause| cause.example).min();
    println!("{all} notifications match that are {}", filter.status.as_str());
    if all > 0 {
        dead_letters::print(&causes);
    }
    if all > filter.limit {
        println!("only the oldest {} of them are meant (--limit)", filter.limit);
    }
    Ok(Plan { count: all.min(filter.limit), first, waiting: given_back(db, filter).await? })
}

fn is_confirmed(count: i64) -> anyhow::Result<bool> {
    ensure!(stdin().is_terminal(), "this is no terminal, so nobody can be asked: say --yes, or --dry-run to look only");
    eprint!("Try {count} again? [y/N] ");
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Answers false when the canary did not succeed, so that the others were left alone.
async fn carry_out(
    db: &PgPool,
    arguments: &Arguments,
    filter: &Filter,
    plan: Plan,
    rate: u32,
    watch: &mut Watch,
) -> anyhow::Result<bool> {
    let by = By { actor: &arguments.by, reason: arguments.reason.as_deref() };
    let mut rest = filter.clone();
    if let Some(id) = plan.first.filter(|_| plan.count > 0 && (arguments.canary || arguments.id.is_some())) {
        retry_one(db, by, id).await.with_context(|| format!("{id} cannot be given back"))?;
        rest.limit -= 1;
        watch.follow(vec![id]);
    }
    if arguments.canary {
        watch.wait(db).await?;
        let well = watch.count(ProcessStatus::Processed) + watch.count(ProcessStatus::Duplicate);
        if (0, well) != watch.left() {
            return Ok(false);
        }
    }
    if arguments.id.is_none() && rest.limit > 0 && plan.count > 0 {
        let accepted = retry_all(db, by, &rest, rate).await;
        watch.follow(accepted.context("a part may have been given back; the same command again takes the rest")?);
    }
    watch.follow(plan.waiting);
    watch.wait(db).await.with_context(|| goes_on(watch))?;
    Ok(true)
}

fn goes_on(watch: &Watch) -> String {
    match watch.left() {
        (_, 0) => "what was given back by now goes on by itself, and the same command again takes the rest".into(),
        (left, all) => format!(
            "{left} of {all} are still to come, and go on by themselves; the same command again shows how far they are"
        ),
    }
}

fn conclude(watch: &Watch, all_tried: bool) -> ExitCode {
    watch.end();
    watch.print();
    if !all_tried {
        println!("the canary did not succeed ({}), so the others were left alone", watch.failure());
        return ExitCode::FAILURE;
    }
    if watch.count(ProcessStatus::Retrying) > 0 {
        println!("those that are retrying are tried again by themselves, later ({})", watch.failure());
    }
    let failed = watch.count(ProcessStatus::Dead) + watch.count(ProcessStatus::Rejected);
    if failed > 0 {
        println!("{failed} failed again ({}); `ops dead-letters` says what to do", watch.failure());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
