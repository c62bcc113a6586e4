/** A server of the Model Context Protocol (MCP) with one function, for mcp-agent.ts: it speaks over its standard streams. */
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { z } from "zod";

const server = new McpServer({ name: "calculator", version: "1.0.0" });
const number = z.int().min(0).max(99);
server.registerTool("add", { description: "Adds.", inputSchema: { a: number, b: number } }, ({ a, b }) => ({
  content: [{ type: "text", text: String(a + b) }],
}));
await server.connect(new StdioServerTransport());
