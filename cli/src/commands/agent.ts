import type { Command } from "commander";
export function addAgentCommands(_program: Command): void {}
