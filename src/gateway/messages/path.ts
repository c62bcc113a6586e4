export const messagesPath = "/v1/messages";

/** Whether errors have Anthropic's shape there. */
export function isMessagesPath(asked: string): boolean {
  return asked === messagesPath || asked.startsWith(`${messagesPath}/`);
}
