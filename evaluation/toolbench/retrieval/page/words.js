// The words of this page in Chinese, beside those that it has in common with the report of a run.

Object.assign(CHINESE, {
  "Numbers": "指标", "Set": "查询集", "queries": "查询数", "no tool": "非工具", "upstream@{n}": "官方@{n}",
  "Percent, ± standard error over queries. Upstream is ToolGen's NDCG, whose ideal ranking is made of the hits alone; all others have the right one. Recall@10, MRR and the ten predictions below are of a search for ten; the other numbers, and the places in brackets, are of ToolGen's search for five. No tool: the first prediction is not a tool.":
    "单位为百分比，± 为各查询间的标准误差。“官方”是 ToolGen 的 NDCG，其理想排序只由命中的工具构成；其余各项采用正确的理想排序。Recall@10、MRR 和下面的十个预测来自宽度为十的搜索；其他数字和方括号中的名次来自 ToolGen 宽度为五的搜索。“非工具”指第一个预测不是工具。",
  "Model and search": "模型与搜索", "Counts of {name}": "{name} 的计数", "Flags": "参数", "Machine": "机器", "Failures": "失败",
  "not searched for": "未搜索", "hit at {n}": "第 {n} 位命中", "no hit": "未命中", "at {n}": "第 {n} 位", "(empty)": "（空）", "none": "无",
  "Relevant tools": "相关工具", "First ten, with their probabilities": "前十个预测及其概率", "only queries without a hit": "只看未命中的查询",
  "Search ids, queries, tools": "搜索编号、查询、工具",
});
