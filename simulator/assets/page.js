// Shows the newest orders and lets a person play payer, bank and bad network.
"use strict";

const EVERY_MS = 1000;
const SHOWN = 50;
// Rates that a click on a toggle sets; the control API takes any.
const TOGGLES = [
  ["drop", { drop: 0.3 }, "Drop 30 %"],
  ["duplicate", { duplicate: 0.5 }, "Duplicate 50 %"],
  ["delay", { delay: { rate: 0.5, minMs: 500, maxMs: 5000 } }, "Delay 50 %"],
  ["reorder", { reorder: { rate: 0.3, maxMs: 5000 } }, "Reorder 30 %"],
  ["probe", { probe: 0.3 }, "Probe 30 %"],
  ["forge", { forge: 0.3 }, "Forge 30 %"],
  ["wrongAmount", { wrongAmount: 0.2 }, "Wrong amount 20 %"],
  ["apiError", { apiError: 0.2 }, "API 500 20 %"],
  ["apiReset", { apiReset: 0.2 }, "API reset 20 %"],
  ["apiSlow", { apiSlow: { rate: 0.5, minMs: 1000, maxMs: 4000 } }, "API slow 50 %"],
];

const byId = (id) => document.getElementById(id);
const yuan = (fen) => "¥" + (fen / 100).toFixed(2);
const clock = (text) => text.slice(11, 19);
let faults = {};
let shownOrders = "";
let pressing = false;

// A list that is drawn anew under a finger swallows the click.
addEventListener("pointerdown", () => { pressing = true; });
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { pressing = false; });

const inUse = () => pressing || (getSelection().toString() && byId("orders").contains(getSelection().anchorNode));

async function call(method, path, body) {
  const response = await fetch("/control" + path, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

// Does what a button is for, says what went wrong, and shows the result.
async function act(button, method, path, body) {
  button.disabled = true;
  try {
    await call(method, path, body);
    say("");
  } catch (error) {
    say(error.message);
  }
  button.disabled = false;
  await refresh();
}

function say(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function button(text, className, method, path, body) {
  const made = element("button", className, text);
  made.type = "button";
  made.addEventListener("click", () => act(made, method, path, body));
  return made;
}

function orderItem(order) {
  const item = byId("order").content.firstElementChild.cloneNode(true);
  const find = (selector) => item.querySelector(selector);
  const path = "/orders/" + encodeURIComponent(order.outTradeNo);
  find(".amount").textContent = yuan(order.total);
  const state = find(".state");
  state.textContent = order.expired ? "已过期 NOTPAY" : stateText(order) + " " + order.state;
  state.classList.add(order.expired ? "expired" : order.state);
  find(".no").textContent = order.outTradeNo;
  find(".what").textContent = order.description || "";
  find("time").textContent = clock(order.createdAt);
  if (order.state === "NOTPAY" && !order.expired) {
    find(".buttons").append(
      button("Pay", "primary", "POST", path + "/pay"),
      button(order.failedAttempts ? `Fail (${order.failedAttempts})` : "Fail", "", "POST", path + "/fail"),
    );
  } else if (order.transactionId) {
    find(".buttons").append(button("Notify again", "", "POST", path + "/notify"));
    const refunded = order.refunds.filter((one) => one.status !== "CLOSED");
    if (refunded.reduce((sum, one) => sum + one.refund, 0) < order.total) {
      const body = { outTradeNo: order.outTradeNo, reason: "console", notifyUrl: refunded[0]?.notifyUrl };
      find(".buttons").append(button("Refund", "", "POST", "/refunds", body));
    }
  }
  find(".refunds").append(...order.refunds.map(refundItem));
  find(".callbacks").append(...order.notifications.map(callbackItem));
  return item;
}

// The Chinese names are short here; those of the API are whole sentences.
function stateText(order) {
  return { NOTPAY: "未支付", SUCCESS: "支付成功", CLOSED: "已关闭", REFUND: "转入退款" }[order.state];
}

function refundItem(refund) {
  const item = document.createElement("li");
  const look = { PROCESSING: "warn", SUCCESS: "good", ABNORMAL: "bad", CLOSED: "" }[refund.status];
  const name = { PROCESSING: "退款处理中", SUCCESS: "退款成功", ABNORMAL: "退款异常", CLOSED: "退款关闭" }[refund.status];
  item.append(
    element("span", "event", "refund " + yuan(refund.refund)),
    element("span", "tag " + look, name + " " + refund.status),
    element("code", "", refund.outRefundNo),
  );
  const next = { PROCESSING: ["SUCCESS", "CLOSED", "ABNORMAL"], ABNORMAL: ["SUCCESS"] }[refund.status] || [];
  const path = "/refunds/" + encodeURIComponent(refund.outRefundNo) + "/outcome";
  const buttons = element("span", "buttons", "");
  buttons.append(...next.map((status) => button(status.toLowerCase(), "", "POST", path, { status })));
  item.append(buttons);
  return item;
}

function callbackItem(notification) {
  const item = document.createElement("li");
  item.append(element("span", "event", "callback " + notification.eventType));
  for (const attempt of notification.attempts) {
    const taken = attempt.status === 200 || attempt.status === 204;
    const what = (attempt.fault ? attempt.fault + " " : "") + (attempt.status ?? (attempt.fault === "drop" ? "not sent" : "no answer"));
    const tag = element("span", "tag " + (taken ? "good" : attempt.fault ? "warn" : "bad"), what);
    tag.title = `${attempt.at} · ${attempt.error ?? attempt.answer ?? ""} · ${attempt.durationMs} ms`;
    item.append(tag);
  }
  if (notification.delivery === "givenUp") item.append(element("span", "tag bad", "given up"));
  if (notification.delivery === "pending") {
    const at = notification.nextAttemptAt;
    const seconds = at ? Math.max(0, Math.round((new Date(at) - Date.now()) / 1000)) : 0;
    item.append(element("span", "hint", seconds > 0 ? `next in ${seconds} s` : "sending…"));
  }
  return item;
}

function showFaults() {
  const rate = (rule) => (typeof rule === "object" ? Math.max(rule.rate, ...Object.values(rule.endpoints ?? {})) : rule) || 0;
  const on = Object.keys(faults).filter((name) => name !== "next" && rate(faults[name]) > 0);
  byId("faults").replaceChildren(...TOGGLES.map(([name, rule, label]) => {
    const pressed = on.includes(name);
    const made = element("button", "", label);
    made.type = "button";
    made.setAttribute("aria-pressed", pressed);
    made.addEventListener("click", async () => {
      const rules = { ...faults, ...rule };
      if (pressed) delete rules[name];
      await act(made, "PUT", "/faults", rules);
    });
    return made;
  }));
  const shown = TOGGLES.map(([name]) => name);
  const others = on.filter((name) => !shown.includes(name)).map((name) => name + " " + rate(faults[name]));
  const next = (faults.next ?? []).map((one) => `next ${one.endpoint}: ${one.faults.join(", ")}`);
  byId("other-faults").textContent = [...others, ...next].join(" · ");
}

async function refresh() {
  try {
    const [list, rules, health] = await Promise.all([
      call("GET", "/orders?limit=" + SHOWN), call("GET", "/faults"), call("GET", "/health"),
    ]);
    if (JSON.stringify(rules) !== JSON.stringify(faults) || !byId("faults").hasChildNodes()) {
      faults = rules;
      showFaults();
    }
    // Only what changed is drawn, so that focus and selection survive; waiting counts down.
    const text = JSON.stringify(list.orders);
    if (!inUse() && (text !== shownOrders || text.includes('"pending"'))) {
      const focused = [...document.querySelectorAll("#orders button")].indexOf(document.activeElement);
      byId("orders").replaceChildren(...list.orders.map(orderItem));
      if (focused >= 0) document.querySelectorAll("#orders button")[focused]?.focus();
      shownOrders = text;
    }
    const totals = list.totals;
    byId("empty").hidden = list.orders.length > 0;
    byId("totals").textContent = totals.orders
      ? `${totals.orders} made, ${totals.payments} paid ${yuan(totals.paid)}, refunded ${yuan(totals.refunded)}` +
        (totals.orders > SHOWN ? `; the newest ${SHOWN}` : "")
      : "";
    byId("status").textContent = `${health.keyMode} · ${health.pendingNotifications} callbacks pending · ${clock(health.now)}`;
  } catch (error) {
    byId("status").textContent = "the simulator does not answer";
  }
}

byId("scan").addEventListener("submit", async (event) => {
  event.preventDefault();
  const code = byId("code");
  await act(event.target.querySelector("button"), "POST", "/pay", { codeUrl: code.value.trim() });
  if (byId("message").hidden) code.value = "";
});

(async function keepFresh() {
  if (!document.hidden) await refresh();
  setTimeout(keepFresh, EVERY_MS);
})();
