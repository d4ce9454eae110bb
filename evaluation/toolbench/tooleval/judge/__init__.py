"""Asks a judge about answers. Reading order:

interface      what is asked, what comes back, and what a judge can do
checks         ToolEval's four questions: their functions, words and inserted texts (pure)
replies        reads a verdict from whatever a judge said (pure)
requests       builds the request of a question in each way of constraining a judge (pure)
prompts        finds the prompts' texts in the user's checkout, or has our own
settings       where the judge is, from flags, the environment and the pool file
served_judge   what judges behind a server share
chat_judge     asks a chat model ToolEval's questions
fac_judge      asks StableToolBench's FAC evaluator
demo_judge     knows what is right for the bundled demo, without a server
examiner       asks until there is a verdict, and keeps every reply in the log
"""
