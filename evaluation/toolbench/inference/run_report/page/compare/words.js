// The words of this page in Chinese, beside those that it has in common with the report of one run.

Object.assign(CHINESE, {
  "Runs": "各次运行", "Differences": "差异", "Sets": "查询集", "Set": "查询集", "All sets": "全部查询集", "Method": "方法", "Model": "模型", "Judge": "评判模型",
  "{n} verdicts an answer": "每个答案 {n} 次评判", "not judged": "未评判", "Compare": "对比", "with": "与",
  "Measure": "指标", "Difference": "差值", "{level} interval": "{level} 区间", "Test": "检验", "Solved": "解决", "Score": "得分", "solved": "解决", "score": "得分",
  "Unsolved": "未解决", "Unsure": "不确定", "Undecided": "未定", "Not recorded": "缓存中没有",
  "exact McNemar test": "精确 McNemar 检验", "only {run}": "仅 {run}", "both": "两者都", "neither": "两者都没有",
  "Both solved": "两者都解决", "{run} solved, {other} not": "{run} 解决，{other} 未解决", "Neither solved": "都未解决",
  "Both answered": "两者都已答", "{run} answered, {other} not": "{run} 已答，{other} 未答", "Neither answered": "都未答",
  "Only in {run}": "仅在 {run} 中", "Not judged in both": "未全部评判", "By": "依据", "judge": "评判", "final answer": "最终答案",
  "Query": "查询", "Parted at": "分叉步", "same": "相同", "other tool": "工具不同", "other arguments": "参数不同", "other reply": "返回不同", "other answer": "答案不同",
  "one goes on": "一方继续", "not known": "未知", "not in this run": "此运行中没有", "Tools": "工具", "Attempts": "尝试",
  "They part at step {n}: {how}.": "在第 {n} 步分叉：{how}。", "Both took the same steps and got the same replies.": "两者的步骤和返回都相同。",
  "Their steps cannot be compared: one left no texts of them.": "无法比较步骤：其中一方没有留下步骤文字。",
  "The two part here": "两者在此分叉", "Verdicts": "评判结果", "repeat {n}": "第 {n} 次", "no reason given": "未给出理由", "by rule, without a judge": "按规则判定，未经评判模型",
  "{n} common queries. Rates and means of these; a difference is {right} minus {left}. Intervals: percentile bootstrap over queries, {resamples} resamples, fixed seed.":
    "两次运行共有 {n} 个查询，比率和均值均基于这些查询；差值为 {right} 减 {left}。区间：对查询做百分位自助法，重采样 {resamples} 次，种子固定。",
  "Queries that only one of the two has, which are in no test: {n}.": "只在其中一次运行中、不参与检验的查询：{n} 个。",
  "{share} of API calls simulated": "{share} 的 API 调用由模拟器返回",
  "Of the API calls {left} and {right} were answered by a simulator and not from recorded replies: the runs met different worlds.":
    "两次运行分别有 {left} 和 {right} 的 API 调用由模拟器返回，而非来自已记录的返回：两者面对的世界不同。",
  "The runs had different simulators ({left}; {right}).": "两次运行使用了不同的模拟器（{left}；{right}）。",
  "{n} of them are judged in both.": "其中 {n} 个在两次运行中都有评判。",
  "{n} pairs of runs can be compared here; p-values are not corrected for that.": "此处可比较 {n} 对运行；p 值未做多重比较校正。",
  "The runs have {left} and {right} verdicts an answer: scores of unequal numbers of repeats are less comparable.": "两次运行每个答案的评判次数为 {left} 和 {right}，可比性较低。",
  "The runs were judged by different models ({left}; {right}): their verdicts are not comparable.": "两次运行由不同的模型评判（{left}；{right}），评判结果不可比。",
  "pp": "个百分点",
});
