"""Holds ToolGen's agents: messages in; a thought, an action and its arguments out. They know an engine, not GPUs.

Reading order:

    catalog, prompts                  what can be called, and the texts around it, found in the user's checkout
    chat_format, template_format      a conversation as text and token ids: known layouts, or the tokenizer's own
    turns                             messages as the turns that the model was trained to read
    action_tokens, language           actions as token ids; everything an agent knows without its model
    agent_options, attempts           what it can be told; when a step is worth another attempt
    generation, session, agent        asking the engine; one conversation; the step of three generations
    agent_parts                       from a checkpoint and options to all of these
    server_needs, checkpoint_sampling what a generation server must keep to; how a checkpoint asks to be drawn from
"""
