"use strict";
// The page's own words in Chinese; what a run says is shown as it is. `t` looks a word up by its English.

const CHINESE = {
  "Theme": "主题", "Summary": "概要", "Timeline": "时间线", "Run": "运行", "Queries": "查询", "Distributions": "分布", "{n} at most": "最多 {n}",
  "Answered": "已答", "Gave up": "放弃", "No answer": "无答案", "Failed": "失败", "Unreadable": "无法读取",
  "Not finished": "未完成", "Not begun": "未开始", "All": "全部",
  "in this report": "在此报告中", "{n} not begun": "{n} 个未开始", "with a final answer, which need not be right": "给出了最终答案，不一定正确",
  "Time": "时间", "Per query": "每个查询", "median · p90 {p90}": "中位数 · p90 {p90}",
  "API calls": "API 调用", "{errors} errors · {missed} not recorded": "{errors} 错误 · {missed} 缓存中没有",
  "Tokens generated": "生成的 token", "{n} read": "读取 {n}", "queries/min": "查询/分钟", "tokens/s": "tokens/s",
  "loading": "加载中", "Replica {n}": "副本 {n}", "ended early": "提前结束", "{share} of its time generating": "{share} 的时间在生成", "at {time}": "{time} 时", "min:s since the start": "开始后的 分:秒",
  "generating": "生成中", "waiting for an API": "等待 API", "between steps": "步骤之间", "idle": "空闲",
  "Conversations, mean per moment": "对话数（每一时刻的平均）", "GPU memory in use": "已用显存",
  "calls simulated": "{calls} 次 API 调用中有 {n} 次（{share}）由模拟器返回：请与使用同一模拟器的运行比较。",
  "calls without a reply": "{calls} 次 API 调用中有 {n} 次（{share}）在返回缓存里没有记录，得到的是错误：次数多时，答案与缓存完整时的不同。",
  "texts cut off": "模型的 {texts} 段文字中有 {n} 段（{share}）没有自行结束，而是到了最大长度（--max_new_tokens）：模型没有给出结束 token。--template 是训练时用的那个吗？",
  "No event log beside these answers, so there are no timings and no timeline.": "答案旁没有事件日志，因此没有耗时和时间线。",
  "Settings that differ from the defaults": "与默认值不同的设置", "All settings": "全部设置", "GPUs and layout": "GPU 与布局",
  "Versions, seeds and times": "版本、种子与时间", "Failed queries": "失败的查询", "Status of API calls": "API 调用的状态",
  "Errors by tool": "各工具的错误", "{calls} calls, {errors} errors, {missed} not recorded": "{calls} 次调用，{errors} 次错误，{missed} 次缓存中没有",
  "Steps": "步数", "Errors": "错误", "Tokens": "token", "Outcome": "结果", "Query and answer": "查询与答案", "Id": "编号",
  "steps": "步", "errors": "错误", "time": "时间", "tokens": "token",
  "Search ids, queries, tools, answers  ( / )": "搜索编号、查询、工具、答案  ( / )",
  "also in thoughts, arguments and observations": "也搜索思考、参数和观察结果", "Sort by": "排序", "up": "升序", "down": "降序",
  "Export CSV": "导出 CSV", "No query matches.": "没有匹配的查询。", "{n} of {all}": "{n} / {all}",
  "← All queries": "← 全部查询", "Previous": "上一个", "Next": "下一个", "copy": "复制", "copied": "已复制",
  "Copy link": "复制链接", "Copy query": "复制查询", "Final answer": "最终答案", "Arguments": "参数", "Observation": "观察结果",
  "Why there is no answer": "为什么没有答案", "Traceback": "回溯", "raw": "原文", "laid out": "排版", "less": "收起", "all {n} characters": "全部 {n} 个字符",
  "The steps below are what its last try had done.": "下面是最后一次尝试已完成的步骤。",
  "Their texts are not kept when a process is killed.": "进程被杀时，它们的文字不会保留。",
  "There is no query {key} in this report.": "报告中没有查询 {key}。", "previous and next query,": "上一个和下一个查询，", "back to the table": "返回表格",
  "(text of the query not recorded)": "（未记录查询文字）", "(no function)": "（没有函数）", "thought": "思考", "stopped here": "在此停止",
  "reply": "返回", "reply with an error": "返回了错误", "not recorded": "缓存中没有", "in the cache": "缓存中有", "simulated": "模拟",
  "{share} simulated": "{share} 由模拟器返回",
  "{hits} ({share}), {fuzzy} of them fuzzy": "{hits}（{share}），其中 {fuzzy} 次为近似匹配", "no such function": "没有此函数", "bad arguments for Finish": "Finish 参数有误",
  "final answer": "最终答案", "gave up": "放弃", "timeout": "超时", "API not working": "API 不可用", "unauthorized": "未授权",
  "finished": "已完成", "interrupted": "已中断", "failed": "失败", "running": "运行中", "unused": "未使用", "reason": "理由", "replica {n}": "副本 {n}",
  "seed {name}": "随机种子 {name}", "load": "加载", "run": "运行", "{what} at once": "同时 {what}",
  "median {median}, 95% within {p95}, longest {max}": "中位数 {median}，95% 在 {p95} 以内，最长 {max}",
  "{lines} of the event log could not be read and were left out.": "事件日志中有 {lines} 无法读取，已略去。",
  "Try {n} of {all}": "第 {n} 次尝试，共 {all} 次", "Branch {n} of {all}": "第 {n} 个分支，共 {all} 个", "Outline": "大纲", "{n} tries": "{n} 次尝试",
  "begun {n} times": "开始过 {n} 次", "step {n}: {state}, {time}": "第 {n} 步：{state}，{time}", "status code {n}": "状态码 {n}", "status": "状态",
  "{n} tokens in the longest prompt": "最长的提示词有 {n} 个 token", "The run ended before this query did.": "这个查询还没结束，运行就结束了。",
  "Search queries": "搜索查询",
  "not subscribed": "未订阅", "too many requests": "请求过多", "rate limit": "频率限制", "error message": "错误信息", "request invalid": "请求无效",
};

// What is counted, with its Chinese measure word.
const COUNTED = {
  step: "步", "API call": "次 API 调用", token: "个 token", line: "行", conversation: "个对话", GPU: "块 GPU", search: "次搜索",
};

let language = "en";

/** The words in the reader's language, with `values` in the places of their names. */
function t(words, values) {
  const found = language === "zh" && Object.hasOwn(CHINESE, words) ? CHINESE[words] : words;
  return values ? found.replace(/\{(\w+)\}/g, (_, name) => values[name]) : found;
}

function readLanguage(state) {
  language = (state.lang || navigator.language || "").startsWith("zh") ? "zh" : "en";
}

/** A sentence that the run wrote about itself; in Chinese the page's own for `name`. */
function sentence(words, name, values) {
  return language === "zh" ? t(name, values) : words;
}

/** The texts that stand in the page itself. */
function translatePage() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", t(element.dataset.label));
  for (const element of document.querySelectorAll("[data-hint]")) element.placeholder = t(element.dataset.hint);
  byId("language").textContent = language === "zh" ? "English" : "中文";
}
